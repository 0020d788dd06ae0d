"""Long work on an image ends between two of its pieces where nobody waits for it."""

from collections.abc import Callable

import numpy as np
import pytest

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.letterbox import letterbox
from plumbline_models.images.pieces import between_pieces, ended_by
from plumbline_models.images.resample import resize_lanczos
from plumbline_models.images.square import pad_square

LARGE, THIN = (3000, 2500), (40, 8000)


class GoneError(Exception):
    """Nobody waits."""


class Waiting:
    """Somebody waits, for so many pieces."""

    def __init__(self, num_pieces: int) -> None:
        self.num_left = num_pieces

    def __call__(self) -> None:
        if not self.num_left:
            raise GoneError
        self.num_left -= 1


@pytest.mark.parametrize(
    ("size", "work"),
    [
        pytest.param(LARGE, lambda pixels: letterbox(pixels, 64, antialias=True), id="letterbox"),
        pytest.param(LARGE, lambda pixels: letterbox(pixels, 64, antialias=False), id="letterbox, sharp"),
        pytest.param(LARGE, lambda pixels: pad_square(pixels, 64, (1, 2, 3)), id="square in bands"),
        pytest.param(THIN, lambda pixels: pad_square(pixels, 64, (1, 2, 3)), id="square of a strip"),
        pytest.param(LARGE, lambda pixels: resize_lanczos(pixels, 600, 500), id="lanczos"),
    ],
)
def test_it_ends_before_the_next_piece_once_nobody_waits(size, work: Callable[[Pixels], object]) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    for num_pieces in (0, 2):
        waiting = Waiting(num_pieces)
        with pytest.raises(GoneError), ended_by(waiting):
            work(pixels)
        assert waiting.num_left == 0


def test_work_of_nobody_in_particular_is_done() -> None:
    with ended_by(Waiting(0)):
        pass
    between_pieces()
