"""nvJPEG's process, by nvImageCodec on the CPU: the same program and library, but for the device that decodes."""

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ConfigError, ImageError
from plumbline_models.images.containers import recognise
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_models.images.nvjpeg import NvJpegDecoder, process
from plumbline_models.images.nvjpeg.agreement import is_for_nvjpeg
from plumbline_models.images.nvjpeg.decoder import MAX_BATCH
from plumbline_models.images.nvjpeg.process import CodecOptions
from tests.programs import children

Encode = Callable[..., bytes]
Open = Callable[..., NvJpegDecoder]

POLICY = DecodePolicy(max_pixels=4 * 10**6)
MODULE = "images.nvjpeg"
NOISE = np.random.default_rng(5).integers(0, 256, (260, 300, 3), dtype=np.uint8)
FOR_NVJPEG = {
    "4:2:0": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 100},
    "restarts": {"restart_marker_rows": 1},
    "exif": {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    "colour profile": {"icc_profile": b"\xff\xd9\xff\xd8" * 300},
}
HOSTILE = """
import os, sys, time
from plumbline_models.images.nvjpeg import process

opened = process.open_codec

def open_codec(options):
    decode = opened(options)
    def decode_or_die(files):
        if any(file.data.endswith(b"abort\\xff\\xd9") for file in files):
            os.abort()
        if any(file.data.endswith(b"hang\\xff\\xd9") for file in files):
            time.sleep(600)
        return [None if file.data.endswith(b"refuse\\xff\\xd9") else one for file, one in zip(files, decode(files))]
    return decode_or_die

process.open_codec = open_codec
process.main()
"""
"""Decodes as ever, but what has one of these words before its end."""


@pytest.fixture
def open_nvjpeg() -> Iterator[Open]:
    before, opened = children(MODULE), list[NvJpegDecoder]()

    def open_it(**options: Any) -> NvJpegDecoder:
        opened.append(NvJpegDecoder(**{"device": None, **options}))
        return opened[-1]

    yield open_it
    for nvjpeg in opened:
        nvjpeg.close()
    assert children(MODULE) == before


@pytest.fixture(scope="module")
def decoder() -> Iterator[ImageDecoder]:
    nvjpeg = NvJpegDecoder(device=None)
    assert nvjpeg.settle()
    decoder = ImageDecoder(POLICY, nvjpeg=nvjpeg)
    yield decoder
    decoder.close()


def by_nvjpeg(nvjpeg: NvJpegDecoder, data: bytes) -> Pixels | None:
    header = recognise(data).open(data, max_pixels=POLICY.max_pixels)
    return nvjpeg.decode(data, header)  # type: ignore[arg-type]


def is_fit(data: bytes) -> bool:
    return is_for_nvjpeg(data, recognise(data).open(data, max_pixels=10**9))  # type: ignore[arg-type]


def with_word(data: bytes, word: bytes) -> bytes:
    """A comment before the scan's end, which decoders skip."""
    return data[:-2] + b"\xff\xfe" + (2 + len(word)).to_bytes(2, "big") + word + data[-2:]


@pytest.mark.parametrize("options", FOR_NVJPEG.values(), ids=FOR_NVJPEG)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_usual_jpegs_are_decoded_by_the_process_to_the_same_pixels(
    decoder: ImageDecoder, encode: Encode, options: dict[str, Any], mode: str
) -> None:
    if mode == "L":
        options = {"subsampling": 0, **{name: each for name, each in options.items() if name != "subsampling"}}
    data = encode(Image.fromarray(NOISE).convert(mode), "JPEG", **options)
    assert is_fit(data)
    nvjpeg = decoder._nvjpeg
    assert nvjpeg is not None
    stored = by_nvjpeg(nvjpeg, data)
    np.testing.assert_array_equal(stored, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    np.testing.assert_array_equal(decoder.decode(data), decode(data, POLICY))  # turned upright, if the tag says so


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda encode: encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG"), id="cmyk"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE), "JPEG", keep_rgb=True), id="kept as rgb"),
        pytest.param(lambda _: simplejpeg.encode_jpeg(NOISE, 90, "RGB", "440"), id="4:4:0"),
        pytest.param(lambda _: simplejpeg.encode_jpeg(NOISE, 90, "RGB", "411"), id="4:1:1"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE[..., 0]), "JPEG", subsampling=1), id="sparse grey"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE[:200]), "JPEG"), id="small"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE).resize((4001, 4000)), "JPEG"), id="large"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE), "JPEG") + b"film", id="something behind it"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE), "JPEG")[:-2], id="no end"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE), "JPEG")[:-900] + b"\xff\xd9\xff\xd9", id="two ends"),
        pytest.param(lambda encode: encode(Image.fromarray(NOISE), "JPEG") * 2, id="two images"),
        pytest.param(
            lambda encode: (
                encode(Image.fromarray(NOISE), "JPEG")
                .replace(b"JFIF\0", b"Jfif\0")
                .replace(b"\xff\xdb", b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0\xff\xdb", 1)
            ),
            id="rgb by adobe's segment",
        ),
    ],
)
def test_other_jpegs_are_for_the_cpus(data: Callable[[Encode], bytes], encode: Encode) -> None:
    assert not is_fit(data(encode))


def test_a_second_frame_header_is_for_the_cpus(encode: Encode) -> None:
    data = encode(Image.fromarray(NOISE), "JPEG")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    header = data[frame : frame + 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")]
    assert not is_fit(data[:frame] + header + data[frame:])
    assert not is_fit(data[: scan + 200] + header + data[scan + 200 :])


@settings(max_examples=150, deadline=None)
@given(place=st.integers(2, 200_000), value=st.integers(0, 255), length=st.integers(1, 4))
def test_a_damaged_file_is_refused_or_seen_as_without_it(
    decoder: ImageDecoder, place: int, value: int, length: int
) -> None:
    data = bytearray(simplejpeg.encode_jpeg(NOISE, quality=80))
    place %= len(data) - length
    data[place : place + length] = bytes([value]) * length
    found: list[object] = []
    for exactly in (True, False):
        try:
            found.append(decoder.decode(bytes(data), exactly=exactly).tobytes())
        except ImageError as error:
            found.append((error.code, error.detail))
    assert found[0] == found[1]


def test_what_waits_is_decoded_in_batches_whose_images_keep_apart(open_nvjpeg: Open, encode: Encode) -> None:
    num_others = len(children(MODULE))
    nvjpeg = open_nvjpeg()
    assert nvjpeg.settle()
    files = [encode(Image.fromarray(np.roll(NOISE, n, 1)).resize((257 + n, 260)), "JPEG") for n in range(8)]
    with ThreadPoolExecutor(2 * MAX_BATCH) as threads:
        found = list(threads.map(lambda data: by_nvjpeg(nvjpeg, data), files * 20))
    for data, pixels in zip(files * 20, found, strict=True):
        np.testing.assert_array_equal(pixels, decode(data, POLICY))
    assert len(children(MODULE)) == num_others + 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({"options": ":fancy_upsampling=0"}, "4:2:2 are off by", id="chroma is not interpolated"),
        pytest.param({"options": ":fast_idct=1"}, "are off by", id="a coarse transform"),
        pytest.param(
            {"device": 0},
            "RuntimeError",
            id="no gpu",
            marks=pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU"),
        ),
    ],
)
def test_a_decoder_that_disagrees_or_cannot_start_is_not_used(
    open_nvjpeg: Open, encode: Encode, caplog: pytest.LogCaptureFixture, options: dict[str, Any], sentence: str
) -> None:
    failures: list[bool] = []
    nvjpeg = open_nvjpeg(**options, on_failure=lambda: failures.append(True))
    assert not nvjpeg.settle()
    nvjpeg.close()
    assert failures == [True]
    (line,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert "nvJPEG is not used" in line
    assert sentence in line
    data = encode(Image.fromarray(NOISE), "JPEG")
    assert by_nvjpeg(nvjpeg, data) is None
    np.testing.assert_array_equal(ImageDecoder(POLICY, nvjpeg=nvjpeg).decode(data), decode(data, POLICY))


def test_without_nvimagecodec_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(ConfigError, match=r"plumbline-serve\[gpu\]"):
        NvJpegDecoder()


@pytest.mark.parametrize("word", [b"abort", b"hang"])
def test_a_file_that_breaks_the_process_is_decoded_by_the_cpus_and_the_process_started_anew(
    open_nvjpeg: Open, encode: Encode, monkeypatch: pytest.MonkeyPatch, word: bytes
) -> None:
    monkeypatch.setattr("plumbline_models.images.nvjpeg.decoder._BATCH_S", 0.5)
    failed = threading.Event()
    nvjpeg = open_nvjpeg(program=("-c", HOSTILE), on_failure=failed.set, first_wait_s=0.01)
    assert nvjpeg.settle()
    decoder = ImageDecoder(POLICY, nvjpeg=nvjpeg)
    data = encode(Image.fromarray(NOISE), "JPEG")
    first = children(MODULE)
    np.testing.assert_array_equal(decoder.decode(with_word(data, word)), decode(data, POLICY))
    assert failed.wait(5)
    _until(lambda: nvjpeg.is_ready)
    np.testing.assert_array_equal(by_nvjpeg(nvjpeg, data), decode(data, POLICY))
    assert children(MODULE) != first


def test_a_process_that_decodes_nothing_any_more_is_started_anew(open_nvjpeg: Open, encode: Encode) -> None:
    failed = threading.Event()
    nvjpeg = open_nvjpeg(program=("-c", HOSTILE), on_failure=failed.set, first_wait_s=0.01)
    assert nvjpeg.settle()
    data = encode(Image.fromarray(NOISE), "JPEG")
    for _ in range(63):
        assert by_nvjpeg(nvjpeg, with_word(data, b"refuse")) is None
    assert by_nvjpeg(nvjpeg, data) is not None
    for _ in range(64):
        assert by_nvjpeg(nvjpeg, with_word(data, b"refuse")) is None
    assert failed.wait(5)


def test_pixels_of_another_size_than_the_checked_one_are_not_taken(encode: Encode) -> None:
    codec = process.open_codec(CodecOptions(None, parent=os.getpid(), shared=-1))
    data = encode(Image.fromarray(NOISE), "JPEG")
    good, bad = codec([process.JpegFile(data, 260, 300), process.JpegFile(data, 300, 260)])
    assert good is not None
    assert bad is None


def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("It did not come true.")
