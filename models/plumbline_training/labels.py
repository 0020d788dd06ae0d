"""What is drawn where, as class numbers on a grid: the training signal for an image tower's patches."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_training.claims import COUNTS, SIDES, SIZES
from plumbline_training.scenes import COLOURS, FILLS, OPPOSITES, SHAPES, Scene, relation_of

PARTS_A_SIDE: Final = 3
NOTHING: Final = (
    len(COLOURS), len(SHAPES), len(FILLS), PARTS_A_SIDE**2, len(COUNTS), len(SIZES), len(SIDES),
)  # fmt: skip
"""The class of each label where there is no object, or where the label does not apply to it."""
SECTIONS: Final = tuple(count + 1 for count in NOTHING)
"""Classes of colour, shape, fill and part of an object, and of its group's count, its size and its side."""
NAMES: Final = ("colour", "shape", "fill", "part", "count", "size", "side")
NUM_LOCAL: Final = 4
"""The first labels can be told from an object alone, the others only from the whole picture."""
REACH: Final = 0.85  # a cell belongs to an object if its centre lies within this share of the radius


def grid_labels(scene: Scene, cells: int) -> NDArray[np.int8]:
    """`[cells, cells, 7]`: the labels of the object in each cell of the squashed image.

    Parts are numbered row by row over a three by three division of the object; they tell neighbours of one look
    apart. The side is where a lone object lies to the only other one.
    """
    labels = np.empty((cells, cells, len(NOTHING)), dtype=np.int8)
    labels[:] = NOTHING
    centres = np.arange(cells) + 0.5
    for thing, values in zip(scene.things, _values(scene), strict=True):
        x, y = thing.x_px / scene.width_px * cells, thing.y_px / scene.height_px * cells
        radius = REACH * thing.diameter_px / 2 * cells
        across = (centres[None, :] - x) / (radius / scene.width_px)
        down = (centres[:, None] - y) / (radius / scene.height_px)
        inside = across**2 + down**2 <= 1
        inside[min(int(y), cells - 1), min(int(x), cells - 1)] = True
        labels[inside] = values
        part = np.add(PARTS_A_SIDE * _third(down), _third(across))
        labels[inside, NAMES.index("part")] = np.broadcast_to(part, inside.shape)[inside]
    return labels


def _values(scene: Scene) -> list[tuple[int, ...]]:
    """The labels of each object, with 0 for its part."""
    counts = [group.count for group in scene.groups for _ in range(group.count)]
    relation = relation_of(*scene.things) if [group.count for group in scene.groups] == [1, 1] else None
    sides = [len(SIDES)] * len(scene.things)
    if relation is not None:
        sides = [SIDES.index(relation), SIDES.index(OPPOSITES[relation])]
    return [
        (
            COLOURS.index(thing.look.colour), SHAPES.index(thing.look.shape), FILLS.index(thing.look.fill), 0,
            COUNTS.index(count), len(SIZES) if thing.look.size is None else SIZES.index(thing.look.size), side,
        )
        for thing, count, side in zip(scene.things, counts, sides, strict=True)
    ]  # fmt: skip


def _third(offsets: NDArray[np.floating]) -> NDArray[np.integer]:
    """Which third of -1 to 1 an offset lies in."""
    return np.clip(((offsets + 1) / 2 * PARTS_A_SIDE).astype(np.int64), 0, PARTS_A_SIDE - 1)
