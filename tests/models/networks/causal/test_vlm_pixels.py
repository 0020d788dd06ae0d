"""How causal families resize images."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from plumbline_models.core.errors import ImageError, ImageTooLargeError
from plumbline_models.images.resample import resize_lanczos
from plumbline_models.networks.causal.pixels import PaddedSquare, Tiles, WholePatches


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param((37, 50), (224, 168), id="larger"),
        pytest.param((400, 600), (150, 224), id="smaller"),
        pytest.param((9, 31), (66, 20), id="taller and narrower"),
        pytest.param((1, 5), (2, 224), id="one line"),
        pytest.param((224, 150), (224, 168), id="one side only"),
    ],
)
def test_lanczos_is_torchvisions_bit_for_bit(old, new):
    pixels = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    planes = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    expected = functional.resize(planes, list(new), interpolation=InterpolationMode.LANCZOS, antialias=True)
    np.testing.assert_array_equal(resize_lanczos(pixels, *new), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        pytest.param((512, 512), (112, 112), id="shrunk to the cap"),
        pytest.param((9, 31), (56, 112), id="grown to the floor"),
        pytest.param((90, 60), (84, 56), id="rounded"),
        pytest.param((400, 600), (112, 168), id="wide"),
    ],
)
def test_qwen_keeps_proportions_in_whole_patches_within_bounds(size, resized):
    image = WholePatches(28, 3136, 18816).preprocess(np.zeros((*size, 3), np.uint8))
    assert image.tiles.shape == (1, *resized, 3)
    assert image.grid == (resized[0] // 28, resized[1] // 28)


def test_qwen_refuses_strips():
    with pytest.raises(ImageError, match="200 times"):
        WholePatches(28, 3136, 18816).preprocess(np.zeros((1, 201, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        pytest.param((512, 512), (4, 4), id="square"),
        pytest.param((400, 600), (3, 4), id="wide"),
        pytest.param((600, 400), (4, 3), id="tall"),
        pytest.param((1, 500), (1, 4), id="strip"),
    ],
)
def test_smolvlm_cuts_tiles_row_by_row_and_adds_the_whole(size, grid):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Tiles(224, 56, is_split=True).preprocess(pixels)
    assert image.grid == grid
    assert image.tiles.shape == (grid[0] * grid[1] + 1, 56, 56, 3)


def test_smolvlm_takes_the_whole_alone_where_it_is_told_to_or_one_tile_is_enough():
    pixels = np.zeros((300, 200, 3), np.uint8)
    for policy in (Tiles(224, 56, is_split=False), Tiles(56, 56, is_split=True)):
        image = policy.preprocess(pixels)
        assert (image.tiles.shape, image.grid) == ((1, 56, 56, 3), (0, 0))


def test_sides_beyond_reason_are_refused_before_any_work():
    for policy in (Tiles(224, 56, is_split=True), PaddedSquare(56, (0, 0, 0))):
        with pytest.raises(ImageTooLargeError):
            policy.preprocess(np.zeros((1, (1 << 16) + 1, 3), np.uint8))
