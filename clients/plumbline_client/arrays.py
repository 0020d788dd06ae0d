"""Arrays and tensors as pixels, by methods of their own: neither numpy nor torch is imported, or needed.

One image is `[height, width, channels]` or `[channels, height, width]`, several are one dimension more; channels are 3
of RGB or 4 of RGBA. Samples are uint8, or floats of 0 to 1, which become `round(255 x)` in float32, halves to even.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

from plumbline_client.errors import UsageError

_CHANNELS = (3, 4)
_ONE, _SEVERAL = 3, 4  # dimensions
_SLACK = 1e-3  # of 0 and 1, a quarter of a step of uint8: what resizing overshoots by
_MAX = 255


@runtime_checkable
class Tensor(Protocol):
    """What torch's tensors have, on whatever device they are."""

    def detach(self) -> Any:
        """Return the tensor without its history."""
        ...

    def cpu(self) -> Any:
        """Return the tensor in the memory of the host."""
        ...

    def data_ptr(self) -> int:
        """Return the address of the first number."""
        ...


@runtime_checkable
class Array(Protocol):
    """What numpy's arrays have."""

    def astype(self, dtype: Any) -> Any:
        """Return the array with another type of numbers."""
        ...

    def transpose(self, *axes: int) -> Any:
        """Return the array with its axes in another order."""
        ...

    def tobytes(self) -> bytes:
        """Return the numbers, row by row."""
        ...


@dataclass(frozen=True, slots=True)
class RawPixels:
    """uint8, row by row."""

    content: bytes
    height: int
    width: int
    channels: int


def holds_several(given: object) -> "TypeGuard[Tensor | Array]":
    """Whether it is an array or a tensor of several images."""
    return isinstance(given, Tensor | Array) and len(_shape(given)) == _SEVERAL


def read_one(given: Tensor | Array) -> RawPixels:
    """Read one image, which may stand alone in an array of several.

    Raises:
        UsageError: It is of another shape, or its samples are neither uint8 nor floats of 0 to 1.
    """
    shape = _shape(given)
    if len(shape) == _SEVERAL and shape[0] != 1:
        raise UsageError(f"This array holds {shape[0]} images, {_said(shape)}: give each of them, such as array[0].")
    return next(read_several(given if len(shape) == _SEVERAL else _alone(given, shape)))


def read_several(given: Tensor | Array) -> Iterator[RawPixels]:
    """Read the images of an array, one after the other; what is computed is computed on the array's own device.

    Raises:
        UsageError: As for `read_one`.
    """
    images: Any = given
    last = _is_channels_last(_shape(images))
    if isinstance(given, Tensor):
        images = _uint8_tensor(images.detach())
        images = (images if last else images.permute(0, 2, 3, 1)).contiguous().cpu()
    else:
        images = _uint8_array(images)
        images = images if last else images.transpose(0, 2, 3, 1)
    num_images, height, width, channels = _shape(images)
    num_bytes = height * width * channels
    for index in range(num_images):
        if isinstance(given, Tensor):
            content = ctypes.string_at(images.data_ptr() + index * num_bytes, num_bytes)
        else:
            content = images[index].tobytes()
        yield RawPixels(content, height, width, channels)


def _alone(given: Any, shape: tuple[int, ...]) -> Any:
    if len(shape) != _ONE:
        raise UsageError(f"Pixels are [height, width, 3] or [3, height, width]; these are {_said(shape)}.")
    return given[None]


def _is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether channels come after height and width.

    Raises:
        UsageError: They come neither before nor after, or could be either.
    """
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first and last:
        raise UsageError(f"Of {_said(shape)} either end may be the channels: Image.raw takes [height, width, 3].")
    if not first and not last:
        raise UsageError(f"Pixels have 3 channels or 4, before or after height and width; these are {_said(shape)}.")
    if 0 in shape[1:]:
        raise UsageError(f"Pixels need a height and a width; these are {_said(shape)}.")
    return last


def _uint8_tensor(tensor: Any) -> Any:
    if str(tensor.dtype) == "torch.uint8":
        return tensor
    _check_range(is_float=bool(tensor.is_floating_point()), given=tensor)
    return (tensor.float() * _MAX).round().clamp(0, _MAX).byte()


def _uint8_array(array: Any) -> Any:
    if str(array.dtype) == "uint8":
        return array
    _check_range(is_float=getattr(array.dtype, "kind", "") == "f", given=array)
    return (array.astype("float32") * _MAX).round().clip(0, _MAX).astype("uint8")


def _check_range(*, is_float: bool, given: Any) -> None:
    """Refuse samples that are no floats of 0 to 1; what is not a number is in no range.

    Raises:
        UsageError: They are not.
    """
    if not is_float:
        raise UsageError(f"Pixels are uint8, or floats of 0 to 1; these are {given.dtype}.")
    if 0 in _shape(given):
        return
    low, high = float(given.min()), float(given.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise UsageError(f"Pixels that are floats go from 0 to 1; these go from {low:g} to {high:g}.")


def _shape(given: Any) -> tuple[int, ...]:
    return tuple(int(length) for length in given.shape)


def _said(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
