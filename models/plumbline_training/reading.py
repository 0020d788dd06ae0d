"""Trains the image tower alone to read its patches: what is drawn where, in windows cut around objects.

A window costs a quarter of a whole picture and is full of what there is to learn, so that shapes are known before
any text comes in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from plumbline_training.labels import NAMES, NOTHING, NUM_LOCAL, SECTIONS, grid_labels
from plumbline_training.pool import Pool
from plumbline_training.scenes import Scene
from plumbline_training.towers import GRID, PATCH_PX, normalised

WINDOW = 6  # patches a side
EMPTY_WEIGHT = 0.3  # of cells without an object, which are most of them
EFFORTS = (1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 4.0)
"""Weights of the labels: sizes and sides are told by comparing objects, which is learned last."""


def label_pool(scenes: Sequence[Scene]) -> NDArray[np.int8]:
    """`[N, GRID, GRID, labels]`: the labels of all scenes."""
    return np.stack([grid_labels(scene, GRID) for scene in scenes])


def reading_loss(readings: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of `[N, patches, classes]` logits with `[N, patches, labels]` class numbers, summed over labels.

    Logits may be of the local labels only. The others are asked for on objects alone, where there is something to
    tell; the empty cells around would drown them.
    """
    total = readings.new_zeros(())
    flat = labels.flatten(0, 1)
    is_object = flat[:, 0] != NOTHING[0]
    for part, section in enumerate(_sections(readings)):
        logits, truth = section.flatten(0, 1), flat[:, part]
        weights = torch.ones(section.shape[-1])
        if part < NUM_LOCAL:
            weights[NOTHING[part]] = EMPTY_WEIGHT
        else:
            logits, truth = logits[is_object], truth[is_object]
        total = total + EFFORTS[part] * nn.functional.cross_entropy(logits, truth, weights)
    return total


def _sections(readings: Tensor) -> tuple[Tensor, ...]:
    is_whole = readings.shape[-1] == sum(SECTIONS)
    return torch.split(readings, list(SECTIONS if is_whole else SECTIONS[:NUM_LOCAL]), dim=-1)


@dataclass(frozen=True, slots=True)
class Windows:
    """Normalised `[N, 3, S, S]` windows, their `[N, 2]` first patches, and their `[N, patches, 4]` labels."""

    pixels: Tensor
    corners: Tensor
    labels: Tensor


def draw_windows(pool: Pool, labels: NDArray[np.int8], size: int, rng: Generator) -> Windows:
    """Cut windows around objects of random scenes."""
    chosen = rng.integers(len(pool.scenes), size=size)
    corners = np.stack([_corner(pool.scenes[int(k)], rng) for k in chosen])
    side = WINDOW * PATCH_PX
    windows = [
        pool.images[k, row * PATCH_PX : row * PATCH_PX + side, column * PATCH_PX : column * PATCH_PX + side]
        for k, (row, column) in zip(chosen, corners, strict=True)
    ]
    cut = [labels[k, r : r + WINDOW, c : c + WINDOW] for k, (r, c) in zip(chosen, corners, strict=True)]
    truth = torch.from_numpy(np.stack(cut)).long().flatten(1, 2)
    return Windows(normalised(np.stack(windows)), torch.from_numpy(corners), truth)


@torch.no_grad()
def shares_read(readings: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Shares of the cells that a label applies to where it is read right, by label."""
    shares = {}
    for part, section in enumerate(_sections(readings)):
        there = labels[..., part] != NOTHING[part]
        shares[NAMES[part]] = (section.argmax(dim=-1) == labels[..., part])[there].float().mean()
    return shares


def _corner(scene: Scene, rng: Generator) -> tuple[int, int]:
    """First patch of a window that holds the middle of some object."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    middle = (thing.y_px / scene.height_px * GRID, thing.x_px / scene.width_px * GRID)
    row, column = (int(np.clip(int(m) - rng.integers(1, WINDOW - 1), 0, GRID - WINDOW)) for m in middle)
    return row, column
