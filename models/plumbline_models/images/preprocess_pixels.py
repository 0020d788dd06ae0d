"""Pixels to what an encoder takes: open_clip's evaluation transform, without torch.

Bit for bit open_clip 3.3's `image_transform(..., is_train=False)` before it makes a tensor, its quirk included: with
a size that is not square, `shortest` ignores the interpolation and uses bicubic.

Where an image would be enlarged to far more than is kept of it (it is more than sixteen times as long as wide), only
the kept part is computed, with the same result; so no image needs much more memory than its own pixels. Where
open_clip raises, because the short side of `longest` would round to nothing, we refuse the image.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels, ResizedPixels
from plumbline_models.core.errors import ImageTooSmallError
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resample import Interpolation, Window, enlarge_window

_MAX_WASTE = 16  # resized pixels for one that is kept
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def preprocess_pixels(pixels: Pixels, spec: PreprocessSpec) -> ResizedPixels:
    """Resize and crop, or pad, as the encoder expects.

    Args:
        pixels: `[H, W, 3]`.
        spec: The encoder's.

    Returns:
        `[spec.size[0], spec.size[1], 3]`, contiguous; without a copy where `pixels` has that size already.

    Raises:
        ImageTooSmallError: Resized in proportion, a side would have no pixel left.
    """
    height, width = pixels.shape[:2]
    resized = _resized_size(height, width, spec)
    if min(resized) < 1:
        raise ImageTooSmallError("The image is too narrow to be resized.", height=height, width=width)
    interpolation = _interpolation(spec)
    if resized == (height, width):
        return _centre(pixels, spec)
    is_enlarged = resized[0] >= height and resized[1] >= width
    if is_enlarged and resized[0] * resized[1] > _MAX_WASTE * spec.size[0] * spec.size[1]:
        window = Window(*_offsets(resized, spec), *spec.size)
        return enlarge_window(pixels, resized, window=window, interpolation=interpolation)
    image = Image.fromarray(pixels).resize((resized[1], resized[0]), _RESAMPLING[interpolation])
    return _centre(np.asarray(image), spec)


def normalise(resized: ResizedPixels, spec: PreprocessSpec) -> NDArray[np.float32]:
    """Turn preprocessed pixels into the tensor that the published towers take; graphs do this themselves.

    Args:
        resized: `[h, w, 3]`, as `preprocess_pixels` returns them.
        spec: The encoder's.

    Returns:
        `[3, h, w]` float32, as torchvision's `ToTensor` and `Normalize` give it.
    """
    mean = np.asarray(spec.mean, dtype=np.float32)
    std = np.asarray(spec.std, dtype=np.float32)
    samples = resized.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((samples - mean) / std).transpose(2, 0, 1))


def _resized_size(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int]:
    if spec.mode == "squash":
        return spec.size
    if spec.mode == "shortest" and spec.size[0] == spec.size[1]:
        side = spec.size[0]
        if width <= height:
            return int(side * height / width), side
        return side, int(side * width / height)
    ratios = height / spec.size[0], width / spec.size[1]
    ratio = max(ratios) if spec.mode == "longest" else min(ratios)
    return round(height / ratio), round(width / ratio)


def _interpolation(spec: PreprocessSpec) -> Interpolation:
    if spec.mode == "shortest" and spec.size[0] != spec.size[1]:
        return "bicubic"
    return spec.interpolation


def _offsets(resized: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    # Negative where the image is smaller than the size: that much is padded before it.
    def cut(rest: int) -> int:
        return rest // 2 if spec.crop == "down" else round(rest / 2)

    top, left = (
        cut(has - wants) if has >= wants else -((wants - has) // 2)
        for has, wants in zip(resized, spec.size, strict=True)
    )
    return top, left


def _centre(pixels: Pixels, spec: PreprocessSpec) -> ResizedPixels:
    height, width = spec.size
    top, left = _offsets((pixels.shape[0], pixels.shape[1]), spec)
    kept = pixels[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    if kept.shape[:2] == spec.size:
        return np.ascontiguousarray(kept)
    resized = np.full((height, width, 3), spec.fill_color, dtype=np.uint8)
    resized[max(-top, 0) :, max(-left, 0) :][: kept.shape[0], : kept.shape[1]] = kept
    return resized
