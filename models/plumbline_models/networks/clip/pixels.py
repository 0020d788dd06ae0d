"""Images as a CLIP's image tower takes them: resized bytes, or the floats of a letterbox."""

from typing import Final, TypeAlias

from plumbline_models.core.arrays import LetterboxedPixels, Pixels, ResizedPixels
from plumbline_models.core.graph import DType
from plumbline_models.images.letterbox import letterbox
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec

TowerPixels: TypeAlias = ResizedPixels | LetterboxedPixels
MAX_SAMPLE: Final = 255.0


def fit_pixels(pixels: Pixels, spec: PreprocessSpec) -> TowerPixels:
    """Resize an image for a tower.

    Args:
        pixels: `[H, W, 3]`.
        spec: The tower's.

    Returns:
        `[*spec.size, 3]`: uint8, or float32 where `spec` says `letterbox`.

    Raises:
        ImageTooSmallError: Resized in proportion, a side would have no pixel left.
    """
    if spec.mode == "letterbox":
        return letterbox(pixels, spec.size[0], antialias=spec.antialias)
    return preprocess_pixels(pixels, spec)


def pixel_type(spec: PreprocessSpec) -> DType:
    """What `fit_pixels` gives."""
    return "float32" if spec.mode == "letterbox" else "uint8"


def white(spec: PreprocessSpec) -> float:
    """The largest sample of what `fit_pixels` gives, but for overshoot."""
    return 1.0 if spec.mode == "letterbox" else MAX_SAMPLE
