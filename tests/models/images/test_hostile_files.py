"""Files that mean harm: each is seen right or refused by a clear code, and takes no memory to speak of."""

import json
import random
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import ImageError, ImageUndecodableError
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.headers import read_header
from plumbline_models.images.image_decoder import ImageDecoder
from tests.models.images.hostile_files import IMAGE, Case, hostile_files

MIB = 2**20
MAX_PIXELS = 4 * 10**6
POLICY = DecodePolicy(max_pixels=MAX_PIXELS)
MOST_BYTES = 100 * MIB
"""Pillow lets the texts of a PNG take 64 MiB; each of the bombs would take four times as much, or more."""
NUM_MUTATIONS = 2000
PROGRAM = """
import json, sys
from pathlib import Path

import PIL.Image
from PIL.Image import open as usual_open

from plumbline_models.core.errors import ImageError
from plumbline_models.images.decode import DecodePolicy, decode

def refuse(*args, **options):
    raise AssertionError("Pillow looked for another reader")

PIL.Image.open = PIL.Image.preinit = PIL.Image.init = refuse

def peak_kib():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

for line in sys.stdin:
    data = Path(line.strip()).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    before_kib = peak_kib()
    try:
        found = decode(data, DecodePolicy(max_pixels=int(sys.argv[1]))).tobytes().hex()
        is_error = False
    except ImageError as error:
        found, is_error = error.code, True
    print(json.dumps([is_error, found, (peak_kib() - before_kib) * 1024]))
"""
"""Decodes each file that it is given the name of; says code or pixels, and by how much its memory has grown."""

CASES = list(hostile_files())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """For each file, by name: whether it was refused, the code or the pixels, the most memory that it took in bytes."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / str(index) for index in range(len(CASES))]
    for path, (_, _, data) in zip(paths, CASES, strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, str(MAX_PIXELS)]
    ran = subprocess.run(command, input="\n".join(map(str, paths)), capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {name: line for (name, _, _), line in zip(CASES, lines, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=[name for name, _, _ in CASES])
def test_a_hostile_file_is_refused_by_its_code_or_seen_right(case: Case, outcomes: dict[str, list[Any]]) -> None:
    name, expected, _ = case
    is_error, found, grown_bytes = outcomes[name]
    if is_error:
        assert found == expected
    else:
        pixels = np.frombuffer(bytes.fromhex(found), np.uint8).reshape(IMAGE.shape)
        assert isinstance(expected, int)
        assert np.abs(pixels.astype(int) - IMAGE).max() <= expected
    assert grown_bytes <= MOST_BYTES


def test_the_service_s_decoder_says_of_each_what_the_bare_one_says(outcomes: dict[str, list[Any]]) -> None:
    decoder = ImageDecoder(POLICY)
    for name, _, data in CASES:
        is_error, found, _ = outcomes[name]
        if is_error:
            with pytest.raises(ImageError) as refused:
                decoder.decode(data)
            assert refused.value.code == found
        else:
            assert decoder.decode(data).tobytes().hex() == found
    decoder.close()


def test_a_png_for_iphones_is_refused_by_name() -> None:
    (data,) = (data for name, _, data in CASES if name == "png for iphones")
    with pytest.raises(ImageUndecodableError, match="CgBI"):
        decode(data, POLICY)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes changed, and now and then a piece lost, doubled or taken from somewhere else."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        front = min(len(changed), 200) if rng.random() < 0.5 else len(changed)
        changed[rng.randrange(front)] = rng.randrange(256)
    start = rng.randrange(len(changed))
    end = start + rng.randint(1, 40)
    match rng.randrange(8):
        case 0:
            del changed[start:]
        case 1:
            del changed[start:end]
        case 2:
            changed[start:start] = changed[start:end]
        case 3:
            changed[start:end] = rng.randbytes(end - start)
    return bytes(changed)


def test_files_changed_byte_by_byte_raise_nothing_but_errors_of_images(files: dict[str, bytes]) -> None:
    rng, kinds = random.Random(14), sorted(files)  # noqa: S311 - the same files each time
    seen = {"pixels": 0, "refused": 0}
    for _ in range(NUM_MUTATIONS):
        data = mutated(files[rng.choice(kinds)], rng)
        read_header(data)
        try:
            pixels = decode(data, POLICY)
        except ImageError:
            seen["refused"] += 1
        else:
            seen["pixels"] += 1
            assert pixels.dtype == np.uint8
            assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    assert min(seen.values()) > NUM_MUTATIONS // 10


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_header_says_the_size_of_every_format(files: dict[str, bytes], is_cut: bool) -> None:
    for name, data in files.items():
        header = read_header(data[:20] if is_cut else data)
        assert name.startswith(header.container)
        assert header.num_pixels == (0 if is_cut and not name.startswith("gif") else 40 * 50)


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_the_header_of_a_tiff_is_read_in_every_layout(is_big: bool, order: str) -> None:
    kind, layout = (16, "HHQQ") if is_big else (4, "HHII")
    head = struct.pack(order + ("2sHHHQ" if is_big else "2sHI"), b"II" if order == "<" else b"MM", *(
        (43, 8, 0, 16) if is_big else (42, 8)
    ))  # fmt: skip
    entries = b"".join(struct.pack(order + layout, tag, kind, 1, side) for tag, side in ((256, 65_536), (257, 30)))
    header = read_header(head + struct.pack(order + ("Q" if is_big else "H"), 2) + entries)
    assert (header.container, header.num_pixels) == ("tiff", 65_536 * 30)


def test_no_file_has_no_header() -> None:
    assert read_header(b"").container == read_header(b"no image").container == ""


def test_hostile_files_have_headers_too() -> None:
    assert all(read_header(data).num_pixels >= 0 for _, _, data in CASES)
