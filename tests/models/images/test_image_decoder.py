"""A file may end its decoder and nothing else: real processes that crash, hang, run out of memory and of time."""

import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from plumbline_models.core.errors import CapacityError, ImageTooLargeError, ImageUndecodableError
from plumbline_models.images import image_decoder
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.image_decoder import ImageDecoder
from tests.programs import children

Encode = Callable[..., bytes]
OpenDecoder = Callable[..., ImageDecoder]

POLICY = DecodePolicy(max_pixels=10**6)
MODULE = "decoder_process"
HOSTILE = """
import os, time
from plumbline_models.images import decoder_process

usual = decoder_process.decode

def decode(data, policy):
    if data.endswith(b"abort"):
        os.abort()
    if data.endswith(b"hang"):
        time.sleep(600)
    if data.endswith(b"spin"):
        while True: pass
    if data.endswith(b"greedy"):
        return bytearray(2**33)
    return usual(data, policy)

decoder_process.decode = decode
decoder_process.main()
"""
"""Decodes as ever, but what ends in one of these words."""


@pytest.fixture
def open_decoder() -> Iterator[OpenDecoder]:
    opened: list[ImageDecoder] = []

    def open_it(**options: Any) -> ImageDecoder:
        opened.append(ImageDecoder(POLICY, **options))
        return opened[-1]

    yield open_it
    for decoder in opened:
        decoder.close()


def test_every_format_gives_the_pixels_that_it_gives_here(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder()
    for data in files.values():
        np.testing.assert_array_equal(decoder.decode(data), decode(data, POLICY))
    assert len(children(MODULE)) == 1


def test_usual_images_start_no_process(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder(program=("-c", "raise SystemExit(3)"))
    for kind in ("jpeg", "jpeg-progressive", "png", "webp", "webp-lossy"):
        decoder.decode(files[kind])
    with pytest.raises(ImageUndecodableError, match="no image"):
        decoder.decode(b"no image")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_what_may_take_long_is_decoded_beside_and_can_be_ended(
    open_decoder: OpenDecoder, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(image_decoder, "MAX_HERE_S", 1e-9)
    decoder = open_decoder(max_decode_s=0.3, program=("-c", HOSTILE))
    np.testing.assert_array_equal(decoder.decode(files[kind]), decode(files[kind], POLICY))
    with pytest.raises(ImageTooLargeError, match="longer than allowed"):
        decoder.decode(files[kind] + b"spin")


def test_a_png_of_more_pixels_than_allowed_starts_no_process(
    open_decoder: OpenDecoder, files: dict[str, bytes]
) -> None:
    large = bytearray(files["png"])
    large[16:24] = struct.pack(">II", 60_000, 60_000)
    large[29:33] = struct.pack(">I", zlib.crc32(large[12:29]))
    with pytest.raises(ImageTooLargeError):
        open_decoder(program=("-c", "raise SystemExit(3)")).decode(bytes(large))


def test_what_is_wrong_with_a_file_is_said_as_it_is_here(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder()
    for data in (files["gif"][:60], files["tiff"][:100], files["avif"][:-50], files["bmp"][:1000]):
        with pytest.raises(ImageUndecodableError) as here:
            decode(data, POLICY)
        with pytest.raises(ImageUndecodableError) as beside:
            decoder.decode(data)
        assert beside.value.detail == here.value.detail
        assert beside.value.facts.keys() == here.value.facts.keys()


@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        pytest.param(b"abort", ImageUndecodableError, "crash", id="crashes"),
        pytest.param(b"hang", ImageTooLargeError, "longer than allowed", id="hangs"),
        pytest.param(b"spin", ImageTooLargeError, "longer than allowed", id="computes for ever"),
        pytest.param(b"greedy", ImageUndecodableError, "crash", id="takes all memory"),
    ],
)
def test_a_file_that_ends_its_decoder_costs_itself_alone(
    open_decoder: OpenDecoder, files: dict[str, bytes], word: bytes, kind: type[Exception], sentence: str
) -> None:
    decoder = open_decoder(max_decode_s=0.3, program=("-c", HOSTILE))
    expected = decode(files["gif"], POLICY)
    np.testing.assert_array_equal(decoder.decode(files["gif"]), expected)
    with pytest.raises(kind, match=sentence):
        decoder.decode(files["gif"] + word)
    np.testing.assert_array_equal(decoder.decode(files["gif"]), expected)
    assert len(children("policy")) == 1


def test_a_process_that_was_stopped_is_ended_at_the_limit(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder(max_decode_s=0.2)
    decoder.decode(files["gif"])
    (child,) = children(MODULE)
    child.suspend()
    with pytest.raises(ImageTooLargeError):
        decoder.decode(files["gif"])
    assert not child.is_running()


def test_one_that_ended_while_it_waited_is_replaced(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder()
    expected = decoder.decode(files["gif"])
    (child,) = children(MODULE)
    child.send_signal(signal.SIGSEGV)
    child.wait()
    np.testing.assert_array_equal(decoder.decode(files["gif"]), expected)


def test_one_that_ends_while_nobody_needs_it_is_waited_for(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder()
    decoder.decode(files["gif"])
    (child,) = children(MODULE)
    child.terminate()
    while psutil.pid_exists(child.pid):
        os.sched_yield()


def test_one_that_is_killed_at_work_is_replaced_and_the_image_decoded(
    open_decoder: OpenDecoder, files: dict[str, bytes]
) -> None:
    """As the system does where memory runs out: the image had no part in it."""
    decoder, found = open_decoder(), []
    expected = decoder.decode(files["gif"])
    (child,) = children(MODULE)
    child.suspend()
    thread = threading.Thread(target=lambda: found.append(decoder.decode(files["gif"])))
    thread.start()
    child.kill()
    thread.join()
    np.testing.assert_array_equal(found[0], expected)


def test_each_thread_has_a_process_of_its_own(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder()
    decoder.decode(files["gif"])
    (child,) = children(MODULE)
    child.suspend()
    thread = threading.Thread(target=decoder.decode, args=[files["gif"]])
    thread.start()
    while decoder._idle:
        os.sched_yield()
    decoder.decode(files["tiff"])
    assert len(children(MODULE)) == 2
    child.resume()
    thread.join()


def test_without_a_process_the_image_is_to_be_sent_again(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder(program=("-c", "raise SystemExit(3)"))
    with pytest.raises(CapacityError):
        decoder.decode(files["gif"])


def test_closing_ends_the_processes(open_decoder: OpenDecoder, files: dict[str, bytes]) -> None:
    decoder = open_decoder()
    decoder.decode(files["gif"])
    decoder.close()
    assert children(MODULE) == []
    assert decoder.decode(files["tiff"]).shape == (40, 50, 3)
    assert children(MODULE) == []


def test_a_decoder_that_nobody_holds_leaves_no_process(files: dict[str, bytes]) -> None:
    ImageDecoder(POLICY).decode(files["gif"])
    assert children(MODULE) == []


PARENT = """
import sys, threading
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder

decoder = ImageDecoder(DecodePolicy(), max_decode_s=600.0, program=("-c", sys.argv[2]))
data = open(sys.argv[1], "rb").read()
decoder.decode(data)
print(decoder._idle[0]._child.pid, flush=True)
decoder.decode(data + sys.argv[3].encode())
sys.stdin.read()
"""


@pytest.mark.parametrize("word", ["", "hang", "spin"])
def test_it_ends_with_its_parent_whatever_it_does(files: dict[str, bytes], tmp_path: Path, word: str) -> None:
    file = tmp_path / "image.gif"
    file.write_bytes(files["gif"])
    command = [sys.executable, "-c", PARENT, str(file), HOSTILE, word]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_it_imports_nothing_heavy() -> None:
    program = "import sys; import plumbline_models.images.decoder_process; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "openvino", "scipy", "pydantic"} & set(ran.stdout.split())


def test_it_has_no_secrets_of_its_parent(
    open_decoder: OpenDecoder, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_AUTH__KEYS_FILE", "secret")
    open_decoder().decode(files["gif"])
    (child,) = children(MODULE)
    assert "PLUMBLINE_AUTH__KEYS_FILE" not in child.environ()
