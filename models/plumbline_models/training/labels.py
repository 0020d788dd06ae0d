"""What is drawn where, as class numbers on a grid: the training signal for an image tower's patches."""

import numpy as np
from numpy.typing import NDArray

from plumbline_models.training.scenes import COLOURS, FILLS, SHAPES, Scene

NOTHING = (len(COLOURS), len(SHAPES), len(FILLS))
SECTIONS = tuple(count + 1 for count in NOTHING)
"""Classes of colour, shape and fill, each with one more for where there is no object."""
REACH = 0.85  # a cell belongs to an object if its centre lies within this share of the radius


def grid_labels(scene: Scene, cells: int) -> NDArray[np.int8]:
    """`[cells, cells, 3]`: colour, shape and fill of the object in each cell of the squashed image."""
    labels = np.empty((cells, cells, 3), dtype=np.int8)
    labels[:] = NOTHING
    centres = np.arange(cells) + 0.5
    for thing in scene.things:
        x, y = thing.x_px / scene.width_px * cells, thing.y_px / scene.height_px * cells
        radius = REACH * thing.diameter_px / 2 * cells
        across = (centres[None, :] - x) / (radius / scene.width_px)
        down = (centres[:, None] - y) / (radius / scene.height_px)
        look = thing.look
        values = (COLOURS.index(look.colour), SHAPES.index(look.shape), FILLS.index(look.fill))
        labels[across**2 + down**2 <= 1] = values
        labels[min(int(y), cells - 1), min(int(x), cells - 1)] = values
    return labels
