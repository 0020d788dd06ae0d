"""An image as it looks after a little blur, a change of size or a JPEG: what a score of a real image survives.

The views are of what an encoder takes, pixels that are resized and cropped already, so that they cost the same for an
image of any size.
"""

import io
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import Encoder, EncoderInfo, EncoderKind, Encoding, Origin, PairInput, Preprocessed

View: TypeAlias = Callable[[Pixels], Pixels]
_NUM_AXES: Final = 3
_SHRINK: Final = 0.75
_JPEG_QUALITY: Final = 75


def blurred(pixels: Pixels) -> Pixels:
    """Each pixel as the mean of itself and its neighbours, the border repeated."""
    padded = np.pad(pixels.astype(np.uint16), ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = pixels.shape[:2]
    total = sum(padded[row : row + height, column : column + width] for row in range(3) for column in range(3))
    return np.asarray((np.asarray(total) + 4) // 9, np.uint8)


def resized(pixels: Pixels) -> Pixels:
    """As it is after it was three quarters as large."""
    image = Image.fromarray(pixels)
    small = image.resize([max(1, round(side * _SHRINK)) for side in image.size], Image.Resampling.BICUBIC)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def compressed(pixels: Pixels) -> Pixels:
    """As it is after a JPEG of quality 75."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(out).convert("RGB"))


VIEWS: Final[Mapping[str, View]] = {"blur": blurred, "resize": resized, "jpeg": compressed}


class ViewedImageEncoder:
    """Another encoder's encodings of a view of each image; the engine and its batches are shared.

    Args:
        inner: Of images; it preprocesses to `[H, W, 3]` uint8.
        name: Of the view.
    """

    kind: EncoderKind = "image"

    def __init__(self, inner: Encoder, name: str) -> None:
        self.inner = inner
        self._name = name

    @property
    def key(self) -> str:
        """The inner encoder's, and the view, since the same image has another encoding."""
        return f"{self.inner.key}+{self._name}"

    @property
    def max_batch_cost(self) -> float:
        """The inner encoder's."""
        return self.inner.max_batch_cost

    def preprocess(self, raw: Pixels | str | PairInput) -> Preprocessed:
        """The view of what the inner encoder takes.

        Raises:
            InvalidFieldError: That is no image of 8 bits.
        """
        pixels: Any = self.inner.preprocess(raw)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != _NUM_AXES:
            raise InvalidFieldError("The encoder does not take pixels of 8 bits.", encoder=self.inner.key)
        return VIEWS[self._name](pixels)

    def load_preprocessing(self) -> None:
        """The inner encoder's."""
        self.inner.load_preprocessing()

    def bucket(self, preprocessed: Preprocessed) -> Hashable:
        """The inner encoder's."""
        return self.inner.bucket(preprocessed)

    def cost(self, preprocessed: Preprocessed) -> float:
        """The inner encoder's."""
        return self.inner.cost(preprocessed)

    def origin(self) -> Origin:
        """The inner encoder's."""
        return self.inner.origin()

    def load(self) -> None:
        """The inner encoder's."""
        self.inner.load()

    def info(self) -> EncoderInfo:
        """The inner encoder's."""
        return self.inner.info()

    def encode(self, batch: Sequence[Preprocessed]) -> Sequence[Encoding | PlumblineError]:
        """The inner encoder's."""
        return self.inner.encode(batch)


def engine_key(encoder: Encoder) -> str:
    """The key of what computes an encoder's encodings, where that is another's."""
    return encoder.inner.key if isinstance(encoder, ViewedImageEncoder) else encoder.key
