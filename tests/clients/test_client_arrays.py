"""Arrays and tensors as pixels, whatever their layout and their numbers."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from plumbline_client import Image, Item, UsageError
from plumbline_client.items import images_of, texts_or_images_of

RGB = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3) * 8
RGBA = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4) * 6


def chw(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1)


def unit(pixels: np.ndarray, kind: Any = np.float32) -> np.ndarray:
    return (pixels / 255).astype(kind)


@pytest.mark.parametrize("pixels", [RGB, RGBA], ids=["RGB", "RGBA"])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: p, id="HWC"),
        pytest.param(chw, id="CHW"),
        pytest.param(unit, id="float32"),
        pytest.param(lambda p: unit(chw(p), np.float64), id="float64 CHW"),
        pytest.param(lambda p: unit(chw(p), np.float16), id="float16 CHW"),
        pytest.param(lambda p: chw(p)[None], id="NCHW of one"),
        pytest.param(torch.from_numpy, id="torch HWC"),
        pytest.param(lambda p: torch.from_numpy(chw(p)), id="torch CHW"),
        pytest.param(lambda p: torch.from_numpy(unit(chw(p))), id="torch float CHW"),
        pytest.param(lambda p: torch.from_numpy(unit(chw(p))).requires_grad_(), id="torch with a gradient"),
        pytest.param(lambda p: torch.from_numpy(unit(p))[None], id="torch NHWC of one"),
        pytest.param(lambda p: torch.from_numpy(unit(np.repeat(p, 2, 1)))[:, ::2], id="torch view with gaps"),
        pytest.param(lambda p: torch.from_numpy(unit(p)).to("cpu", torch.float64), id="torch float64"),
    ],
)
def test_pixels_are_the_same_in_every_layout_and_type(pixels: np.ndarray, make: Any) -> None:
    image = Item(make(pixels)).image
    assert image is not None
    assert (image.shape, image.channels) == (pixels.shape[:2], pixels.shape[2])
    assert image.content == pixels.tobytes()


def test_sixteen_bits_of_torch_are_within_a_step() -> None:
    content = images_of([torch.from_numpy(unit(chw(RGB))).to(torch.bfloat16)])[0].content
    assert np.abs(np.frombuffer(content or b"", np.uint8).reshape(RGB.shape).astype(int) - RGB).max() <= 1


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_an_array_of_several_is_several_images(make: Any, kind: str) -> None:
    batch = np.stack([RGB, RGB + 1, RGB + 2])
    given = batch if kind == "uint8" else unit(batch)
    for several in (make(given), make(np.ascontiguousarray(given.transpose(0, 3, 1, 2)))):
        for images in (images_of(several), texts_or_images_of(several)):
            assert [image.content for image in images if isinstance(image, Image)] == [each.tobytes() for each in batch]


def test_floats_are_rounded_to_the_nearest_and_halves_to_even() -> None:
    steps = np.array([0.0, 0.5, 1.5, 2.49, 254.5, 255.0], np.float32).reshape(1, 2, 3) / np.float32(255)
    rounded = [0, 0, 2, 2, 254, 255]
    assert list(Item(steps).image.content) == rounded  # type: ignore[union-attr, arg-type]
    assert list(Item(torch.from_numpy(steps)).image.content) == rounded  # type: ignore[union-attr, arg-type]


def test_what_resizing_overshoots_is_cut_off() -> None:
    pixels = np.full((2, 5, 3), 1.0004, np.float32)
    pixels[0] = -0.0004
    content = Item(pixels).image.content  # type: ignore[union-attr]
    assert content == bytes([0] * 15 + [255] * 15)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda p: unit(p) * 2 - 1, "from -1 to", id="-1 to 1"),
        pytest.param(lambda p: p.astype(np.float32), "from 0 to 232", id="0 to 255"),
        pytest.param(lambda p: np.where(p > 9, np.nan, 0.5), "from nan", id="not a number"),
        pytest.param(lambda p: p.astype(np.int64), "int64", id="integers"),
        pytest.param(lambda p: p > 9, "bool", id="truth values"),
        pytest.param(lambda p: p[..., 0], r"\[2, 5\]", id="no channels"),
        pytest.param(lambda p: p[..., :2], "3 channels or 4", id="two channels"),
        pytest.param(lambda p: p[None, None], r"\[1, 1, 2, 5, 3\]", id="five dimensions"),
        pytest.param(lambda p: np.stack([p, p]), "2 images", id="two images"),
        pytest.param(lambda p: p[:0], "a height", id="no rows"),
        pytest.param(lambda p: np.repeat(p[:1], 3, 0), "either end", id="channels at both ends"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_what_could_be_scored_wrong_is_refused(make: Any, said: str, kind: Any) -> None:
    with pytest.raises(UsageError, match=said):
        Item(kind(make(RGB)))


def test_tensors_are_read_where_numpy_is_missing() -> None:
    """What torch itself imports is not our doing: the client asks for tensors' own methods alone."""
    program = """
import sys
class Tensor:  # as a tensor of torch without numpy: no array interface, no buffer
    import ctypes
    shape, dtype = (2, 2, 3), "torch.uint8"
    memory = ctypes.create_string_buffer(bytes(range(12)), 12)
    def detach(self): return self
    cpu = contiguous = detach
    def __getitem__(self, key): self.shape = (1, 2, 2, 3); return self
    def data_ptr(self): return self.ctypes.addressof(self.memory)
from plumbline_client import Item
assert Item(Tensor()).image.content == bytes(range(12))
assert not {"numpy", "torch"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
