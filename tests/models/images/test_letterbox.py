"""The letterbox of floats against the program that HPSv2 is published with, and against torchvision on drawn images."""

import json

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from loadtests.goldens.preference.drawing import GOLDEN, image, record
from plumbline_models.core.errors import ImageTooSmallError
from plumbline_models.images.letterbox import letterbox

HPSV2 = record("hpsv2")
SETS = json.loads((GOLDEN / "hps_preprocess.json").read_text(encoding="utf-8"))
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
FLOAT32 = 4e-4  # torch computes the resampling weights in float32


def normalised(boxed: np.ndarray) -> np.ndarray:
    return ((boxed - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "entry", [each for each in HPSV2["images"] if "pixels_on" in each], ids=lambda each: each["name"]
)
@pytest.mark.parametrize(("antialias", "key"), [(True, "pixels_on"), (False, "pixels_off")])
def test_pixels_are_those_of_the_authors_program(entry: dict, antialias: bool, key: str) -> None:
    found = normalised(letterbox(image(entry["name"]), 224, antialias=antialias))
    places = HPSV2["pixel_probes"]["where_channel_row_column"]
    assert [found[tuple(place)] for place in places] == pytest.approx(entry[key]["probe"], abs=FLOAT32)
    assert np.abs(found).sum() == pytest.approx(entry[key]["sum_abs"], rel=1e-5)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (300, 200), (17, 300), (224, 100), (31, 31)], ids=str)
@pytest.mark.parametrize("antialias", [True, False])
def test_any_shape_is_resized_as_torch_does_in_double_precision(shape: tuple[int, int], antialias: bool) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    scale = 64 / max(shape)
    size = [round(side * scale) for side in shape]
    doubles = torch.from_numpy(pixels).permute(2, 0, 1).double() / 255
    expected = functional.resize(doubles, size, functional.InterpolationMode.BICUBIC, antialias=antialias)
    top, left = (64 - size[0]) // 2, (64 - size[1]) // 2
    boxed = letterbox(pixels, 64, antialias=antialias)
    kept = boxed[top : top + size[0], left : left + size[1]]
    assert np.abs(kept.transpose(2, 0, 1) - expected.numpy()).max() < 2e-6
    assert boxed.dtype == np.float32
    assert np.isclose(np.abs(boxed).sum(), np.abs(kept).sum(), rtol=1e-5)  # the rest is black


def test_values_over_and_undershoot() -> None:
    stripes = np.zeros((100, 100, 3), dtype=np.uint8)
    stripes[:, 40:60] = 255
    boxed = letterbox(stripes, 224, antialias=True)
    assert boxed.min() < -0.01
    assert boxed.max() > 1.01


@pytest.mark.parametrize("antialias", [True, False])
def test_a_long_image_is_resized_in_bands_without_a_seam(antialias: bool) -> None:
    rows = np.linspace(0, 255, 60_000).astype(np.uint8)
    tall = np.broadcast_to(rows[:, np.newaxis, np.newaxis], (60_000, 600, 3))
    boxed = letterbox(np.ascontiguousarray(tall), 224, antialias=antialias)
    middle = boxed[:, 111, 0]
    assert (np.diff(middle) > 0).all()


def test_an_image_too_narrow_to_be_resized_is_refused() -> None:
    with pytest.raises(ImageTooSmallError, match="too narrow"):
        letterbox(np.zeros((900, 1, 3), np.uint8), 224, antialias=True)


@pytest.mark.parametrize("case", SETS["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize(("antialias", "key"), [(True, "antialias_true"), (False, "antialias_false")])
def test_a_small_square_is_that_of_the_authors_program(case: dict, antialias: bool, key: str) -> None:
    pixels = np.array(case["input"]["image_hwc_uint8"], np.uint8)
    found = normalised(letterbox(pixels, case["input"]["size"], antialias=antialias))
    assert np.abs(found - case["expected"][key]).max() <= SETS["meta"]["atol"]
