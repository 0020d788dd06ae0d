"""An image transformer that starts as a convolution network, and what it is taught with."""

from typing import Any, cast

import numpy as np
import torch

from plumbline_training.labels import NAMES, NOTHING, SECTIONS, grid_labels
from plumbline_training.local_start import PERIODS, STEPS, place_codes, turn
from plumbline_training.pool import draw_shard
from plumbline_training.reading import WINDOW, draw_windows, label_pool, reading_loss
from plumbline_training.sampling import sample_scene
from plumbline_training.teacher import HINT_WIDTHS, Teacher, hint_loss
from plumbline_training.towers import GRID, IMAGE_PX, PATCH_PX, Watched, build_clip


def test_a_turned_code_is_the_code_of_the_place_one_step_away() -> None:
    codes = place_codes(7)
    assert codes.shape == (7, 7, 4 * len(PERIODS))
    for row, column in STEPS:
        turned = codes[3, 3] @ turn((row, column)).T
        assert torch.allclose(turned, codes[3 + row, 3 + column], atol=1e-5)


def test_the_first_layers_begin_by_looking_one_step_away() -> None:
    torch.manual_seed(0)
    visual = cast("Any", build_clip(8).visual)
    codes = place_codes(GRID).flatten(0, 1)
    block = visual.transformer.resblocks[0]
    states = torch.zeros(1, GRID * GRID, block.attn.embed_dim)
    states[..., : codes.shape[1]] = codes
    with torch.no_grad():
        normal = block.ln_1(states)
        _, maps = block.attn(normal, normal, normal, average_attn_weights=False)
    middle = (GRID // 2) * GRID + GRID // 2
    for head, (row, column) in enumerate(STEPS):
        assert int(maps[0, head, middle].argmax()) == middle + row * GRID + column


def test_the_image_tower_as_trained_is_the_one_that_open_clip_runs() -> None:
    torch.manual_seed(0)
    watched = Watched(build_clip(8)).eval()
    pixels = torch.randn(2, 3, IMAGE_PX, IMAGE_PX)
    with torch.no_grad():
        embeddings, readings = watched(pixels)
        frozen, _ = watched(pixels, num_frozen=4)
        expected = watched.clip.encode_image(pixels, normalize=True)
    assert torch.allclose(embeddings, expected, atol=1e-5)
    assert torch.allclose(frozen, expected, atol=1e-5)
    assert readings.shape == (2, GRID * GRID, sum(SECTIONS))


def test_frozen_layers_get_no_gradient_and_the_others_do() -> None:
    watched = Watched(build_clip(8))
    embeddings, _ = watched(torch.randn(1, 3, IMAGE_PX, IMAGE_PX), num_frozen=4)
    embeddings.sum().backward()
    blocks = cast("Any", watched.clip.visual).transformer.resblocks
    assert blocks[3].attn.in_proj_weight.grad is None
    assert blocks[4].attn.in_proj_weight.grad is not None


def test_windows_are_cut_where_their_labels_are() -> None:
    pool = draw_shard(3, IMAGE_PX, num_scenes=6)
    labels = label_pool(pool.scenes)
    windows = draw_windows(pool, labels, 20, np.random.default_rng(0))
    assert windows.pixels.shape == (20, 3, WINDOW * PATCH_PX, WINDOW * PATCH_PX)
    assert windows.labels.shape == (20, WINDOW * WINDOW, len(SECTIONS))
    has_object = (windows.labels != torch.tensor(NOTHING)).any(dim=-1).any(dim=-1)
    assert bool(has_object.all())


def test_sides_are_labelled_as_they_are_described() -> None:
    rng = np.random.default_rng(4)
    side = NAMES.index("side")
    found = 0
    for _ in range(40):
        scene = sample_scene(rng)
        sides = np.unique(grid_labels(scene, GRID)[..., side])
        named = [value for value in sides if value != NOTHING[side]]
        found += bool(named)
        assert len(named) in {0, 2}
        assert not named or sum(group.count for group in scene.groups) == 2
    assert found > 0


def test_a_teacher_gives_one_hint_a_layer_for_every_patch() -> None:
    teacher = Teacher().eval()
    with torch.no_grad():
        readings, hints = teacher(torch.randn(2, 3, 48, 48))
    assert [hint.shape[-1] for hint in hints] == list(HINT_WIDTHS)
    assert {hint.shape[:2] for hint in hints} == {(2, 36)}
    assert float(hint_loss(hints, hints)) == 0.0
    labels = torch.tensor(NOTHING).expand(2, 36, -1)
    assert torch.isfinite(reading_loss(readings, labels))
