"""What an encoder expects of its pixels: size, how they are resized, and how they are normalised."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, TypeGuard

from plumbline_models.core.errors import ConfigError
from plumbline_models.images.resample import Interpolation

ResizeMode: TypeAlias = Literal["shortest", "longest", "squash", "letterbox"]
CropRounding: TypeAlias = Literal["even", "down"]
Triple: TypeAlias = tuple[float, float, float]

# Radford et al., arXiv:2103.00020: the means and deviations published with the CLIP weights.
OPENAI_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Triple = (0.26862954, 0.26130258, 0.27577711)

_MAX_SAMPLE = 255
_MODES: tuple[ResizeMode, ...] = ("shortest", "longest", "squash", "letterbox")
_INTERPOLATIONS: dict[object, Interpolation] = {
    "bicubic": "bicubic",
    "bilinear": "bilinear",
    "random": "bicubic",  # open_clip's word for training; it evaluates with bicubic
}


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How pixels become an encoder's input.

    Args:
        size: Height and width in pixels.
        mode: `shortest`: the short side fits and the rest is cut off around the centre; `longest`: the long side
            fits and the rest is padded; `squash`: both sides fit, whatever the proportions; `letterbox`: as
            `longest`, but in floats, which open_clip does not have and HPSv2 needs.
        interpolation: Of the resize.
        fill_color: 0 to 255, all channels; what `longest` pads with.
        mean: By channel, of samples in [0, 1].
        std: By channel, of samples in [0, 1].
        crop: How half a pixel rounds where `shortest` cuts off an odd rest: to even, as open_clip and torchvision do,
            or down, as the transformers library does.
        antialias: Whether `letterbox` smooths images that shrink.
    """

    size: tuple[int, int] = (224, 224)
    mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill_color: int = 0
    mean: Triple = OPENAI_MEAN
    std: Triple = OPENAI_STD
    crop: CropRounding = "even"
    antialias: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read open_clip's `preprocess_cfg`, our `crop` and `antialias` among it; what is missing has its default.

        Args:
            config: `size` may be a number, or a sequence of one or two; `mean` and `std` a number or three.
                Keys that do not concern evaluation are passed over, as open_clip does.

        Raises:
            ConfigError: A value is not one that open_clip would take.
        """
        given = {key: value for key, value in config.items() if value is not None}
        if given.get("mode", "RGB") != "RGB":
            raise ConfigError("Only RGB encoders are supported.", mode=given["mode"])
        return cls(
            size=_read_size(given.get("size", 224)),
            mode=_read_mode(given.get("resize_mode", "shortest")),
            interpolation=_read_interpolation(given.get("interpolation", "bicubic")),
            fill_color=_read_fill(given.get("fill_color", 0)),
            mean=_read_triple("mean", given.get("mean", OPENAI_MEAN)),
            std=_read_std(given.get("std", OPENAI_STD)),
            crop="down" if given.get("crop") == "down" else "even",
            antialias=bool(given.get("antialias", True)),
        )


def is_squashed(processor: Mapping[str, Any]) -> bool:
    """Whether an image processor of the transformers library resizes to a height and a width, whatever the aspect.

    Args:
        processor: Its `preprocessor_config.json`.
    """
    size = processor.get("size")
    return isinstance(size, Mapping) and "height" in size


def _read_size(value: object) -> tuple[int, int]:
    sides = list(value) if _is_sequence(value) else [value]
    whole = [int(side) for side in sides if _is_number(side) and side == int(side) and side > 0]
    if len(whole) != len(sides) or len(whole) not in {1, 2}:
        raise ConfigError("An image size must be one or two positive whole numbers.", size=value)
    return whole[0], whole[-1]


def _read_mode(value: object) -> ResizeMode:
    for mode in _MODES:
        if value == mode:
            return mode
    raise ConfigError("The resize mode must be shortest, longest, squash or letterbox.", resize_mode=value)


def _read_interpolation(value: object) -> Interpolation:
    if not isinstance(value, str) or value not in _INTERPOLATIONS:
        raise ConfigError("The interpolation must be bicubic or bilinear.", interpolation=value)
    return _INTERPOLATIONS[value]


def _read_fill(value: object) -> int:
    if not _is_number(value) or value != int(value) or not 0 <= value <= _MAX_SAMPLE:
        raise ConfigError("The fill colour must be a whole number from 0 to 255.", fill_color=value)
    return int(value)


def _read_triple(name: str, value: object) -> Triple:
    values = list(value) if _is_sequence(value) else [value] * 3
    numbers = [float(number) for number in values if _is_number(number)]
    match numbers:
        case [red, green, blue] if len(values) == len(numbers):
            return red, green, blue
    raise ConfigError(f"The {name} must be one number or three.", **{name: value})


def _read_std(value: object) -> Triple:
    std = _read_triple("std", value)
    if min(std) <= 0:
        raise ConfigError("The std must be positive.", std=value)
    return std


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
