"""Is this a picture at all? What generators and pipelines give when they break, found in decoded pixels.

Blank and nearly constant images, pure noise, tiled images, letterbox bars, and images whose file broke off and was
decoded all the same. An alignment score does not find them: a blank or noisy image still has a cosine with any text,
and its place among the cosines of good images depends on the text.

Every check reads about 128 by 128 of the pixels, some lines and their neighbours, and gives evidence between 0 and 1,
where 0.5 is its threshold. `loadtests/scorers/integrity.py` has the calibration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.repetition import repetition

Fault: TypeAlias = Literal["blank", "near_constant", "noise", "tiled", "letterbox", "truncated"]
Planes: TypeAlias = NDArray[np.uint8]
"""`[3, rows, columns]`: the pixels that are looked at."""
_Floats: TypeAlias = NDArray[np.float32]

GRID: Final = 128
"""Rows and columns that are looked at, at the most."""
_LEAST_SIDE_PX: Final = 32  # below, nothing is said about structure
_STEEPNESS: Final = 4.0
_GREEN: Final = 1
_BLANK_LEVELS: Final = 3.0
_CONSTANT_LEVELS: Final = 14.0
_CONSTANT_SHARE: Final = 0.001  # of the pixels, left out at either end
_NOISE_CORRELATION: Final = 0.35  # of neighbours; photographs of grass and gravel have more
_NOISE_DEVIATION: Final = 5.5  # of the mean of a block, in units of what white noise has
_BLOCK: Final = 8  # samples along each side of a block
_REPEATS: Final = 0.17  # of the squared difference of unrelated pixels
_FLAT_LEVELS: Final = 12  # of one colour, in a row of a bar
_SAME_LEVELS: Final = 14  # between the bars of both sides
_BAR_EDGE_LEVELS: Final = 16  # between a bar and the picture, where it has a hard edge
_CUT_EDGE_LEVELS: Final = 8  # the same, of what is missing: its colour is known
_BAR_SHARE: Final = 0.025  # of the side, each bar
_REACHES: Final = 0.02  # of the side: a picture with no larger bar there reaches it
_CUT_SHARE: Final = 0.04
_BAR_EDGE_SHARE: Final = 0.9  # of a bar's length that has a hard edge
_CUT_EDGE_SHARE: Final = 0.22
_EDGE_PX: Final = 32  # looked at for an edge: a JPEG's blocks of colour have 16, and the last may be part filling
_FILLINGS: Final = (0.0, 128.0)  # what decoders of PNG and of JPEG leave where there is nothing
_FILLING_LEVELS: Final = 3  # of one colour, and from what decoders leave


@dataclass(frozen=True, slots=True)
class _Bar:
    """Rows of one colour along an edge of the image."""

    share: float
    """Of all rows."""
    colour: _Floats
    edge: _Floats
    """`[rows, places]`: how far the picture behind it is from its colour, in levels."""

    def hardness(self, levels: float, share: float = 1.0) -> float:
        """Share of its length along which the picture differs, in the row where that is the most.

        Args:
            levels: By how many at least.
            share: Of the rows of the edge, how many are looked at.
        """
        rows = self.edge[: max(1, int(share * len(self.edge)))]
        return float((rows > levels).mean(axis=1).max()) if rows.size else 0.0


def find_faults(pixels: Pixels) -> Mapping[Fault, float]:
    """Evidence for each fault, between 0 and 1; from 0.5 on an image has it.

    Args:
        pixels: `[H, W, 3]`.
    """
    height, width = pixels.shape[:2]
    step = -(-height // GRID), -(-width // GRID)
    planes = np.ascontiguousarray(pixels[:: step[0], :: step[1]].transpose(2, 0, 1))
    blank, constant = _flatness(planes)
    found: dict[Fault, float] = {"blank": blank, "near_constant": constant}
    if min(height, width) < _LEAST_SIDE_PX or max(blank, constant) > 1 / 2:
        return found
    found["noise"] = _noise(pixels, step, planes)
    found["tiled"] = max(_tiled(pixels), _tiled(pixels.swapaxes(0, 1)))
    turned = np.ascontiguousarray(planes.swapaxes(1, 2))
    rows, columns = _bars(planes, step[0], _FLAT_LEVELS), _bars(turned, step[1], _FLAT_LEVELS)
    found["letterbox"] = max(_letterbox(rows, columns), _letterbox(columns, rows))
    found["truncated"] = _truncated(_bars(planes, step[0], _FILLING_LEVELS), columns)
    return found


def _below(measure: float, threshold: float) -> float:
    """Evidence of a measure that is small where something is wrong."""
    return float(1 / (1 + (max(measure, 0.0) / threshold) ** _STEEPNESS))


def _above(measure: float, threshold: float) -> float:
    return 1 - _below(measure, threshold)


def _flatness(planes: Planes) -> tuple[float, float]:
    values = np.sort(planes.reshape(3, -1), axis=1, kind="stable").astype(np.float32)
    left_out = int(_CONSTANT_SHARE * values.shape[1])
    spread = float((values[:, -1] - values[:, 0]).max())
    inner = float((values[:, -1 - left_out] - values[:, left_out]).max())
    return _below(spread, _BLANK_LEVELS), _below(inner, _CONSTANT_LEVELS)


def _noise(pixels: Pixels, step: tuple[int, int], planes: Planes) -> float:
    """Neighbours that know nothing of each other, and no place that stands out, in any colour."""
    green = planes[_GREEN].astype(np.float32)
    right = pixels[:: step[0], 1 :: step[1], _GREEN].astype(np.float32)
    below = pixels[1 :: step[0], :: step[1], _GREEN].astype(np.float32)
    correlation = max(_correlation(green, right), _correlation(green, below))
    num_rows, num_columns = planes.shape[1] // _BLOCK, planes.shape[2] // _BLOCK
    blocks = planes[:, : num_rows * _BLOCK, : num_columns * _BLOCK].reshape(3, num_rows, _BLOCK, num_columns, _BLOCK)
    means = blocks.sum(axis=4, dtype=np.float32).sum(axis=2) / _BLOCK**2
    farthest = np.abs(means - means.mean(axis=(1, 2), keepdims=True)).max(axis=(1, 2))
    deviations = planes.reshape(3, -1).astype(np.float32).std(axis=1)
    deviation = float((farthest / np.maximum(deviations, 1e-3)).max()) * _BLOCK
    return min(_below(correlation, _NOISE_CORRELATION), _below(deviation, _NOISE_DEVIATION))


def _correlation(first: _Floats, second: _Floats) -> float:
    height, width = min(first.shape[0], second.shape[0]), min(first.shape[1], second.shape[1])
    ours, theirs = first[:height, :width].ravel(), second[:height, :width].ravel()
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    scale = float(np.sqrt(np.dot(ours, ours) * np.dot(theirs, theirs)))
    return abs(float(np.dot(ours, theirs))) / scale if scale else 1.0


def _tiled(pixels: Pixels) -> float:
    return _below(repetition(pixels), _REPEATS)


def _bars(planes: Planes, step_px: int, flat_levels: int) -> tuple[_Bar, _Bar]:
    """The bar along the first row and the one along the last, of one colour within so many levels."""
    high, low = planes.max(axis=2), planes.min(axis=2)
    middles = (high.astype(np.float32) + low) / 2
    is_flat = (high - low).max(axis=0) <= flat_levels
    num_edge = 1 + -(-_EDGE_PX // step_px)
    found = []
    for rows, colours, flat in ((planes, middles, is_flat), (planes[:, ::-1], middles[:, ::-1], is_flat[::-1])):
        belongs = flat & (np.abs(colours - colours[:, :1]).max(axis=0) <= flat_levels)
        found.append(_bar(rows, belongs, colours[:, 0], num_edge=num_edge))
    return found[0], found[1]


def _bar(planes: Planes, belongs: NDArray[np.bool_], colour: _Floats, *, num_edge: int) -> _Bar:
    num_rows = len(belongs) if belongs.all() else int(belongs.argmin())
    if num_rows in {0, len(belongs)}:
        return _Bar(0.0, colour, np.empty((0, 0), np.float32))
    picture = planes[:, num_rows : num_rows + num_edge].astype(np.float32)
    return _Bar(num_rows / len(belongs), colour, np.abs(picture - colour[:, np.newaxis, np.newaxis]).max(axis=0))


def _letterbox(bars: tuple[_Bar, _Bar], across: tuple[_Bar, _Bar]) -> float:
    """Bars of one colour on two opposite sides, and a picture between them that reaches the other two."""
    first, last = bars
    if max(bar.share for bar in across) > _REACHES or np.abs(first.colour - last.colour).max() > _SAME_LEVELS:
        return 0.0
    share, hardness = min(first.share, last.share), min(bar.hardness(_BAR_EDGE_LEVELS, 1 / 2) for bar in bars)
    return min(_above(share, _BAR_SHARE), _above(hardness, _BAR_EDGE_SHARE))


def _truncated(rows: tuple[_Bar, _Bar], columns: tuple[_Bar, _Bar]) -> float:
    """A filling of decoders below a picture that reaches the sides, and not above it."""
    top, bottom = rows
    is_filling = any(np.abs(bottom.colour - level).max() <= _FILLING_LEVELS for level in _FILLINGS)
    is_bar = top.share > 0 and np.abs(top.colour - bottom.colour).max() <= _SAME_LEVELS
    if not is_filling or is_bar or max(bar.share for bar in columns) > _REACHES:
        return 0.0
    return min(_above(bottom.share, _CUT_SHARE), _above(bottom.hardness(_CUT_EDGE_LEVELS), _CUT_EDGE_SHARE))
