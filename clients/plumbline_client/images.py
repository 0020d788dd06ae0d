"""Images as a caller has them: files, bytes, pixels, or addresses."""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from typing_extensions import Self

from plumbline_client import arrays
from plumbline_client.arrays import Array, RawPixels, Tensor
from plumbline_client.errors import UsageError

RGB = 3
"""Channels of pixels, unless it is said otherwise."""
_RGBA = 4
_DIMENSIONS = 3
_ALPHA_MODES = frozenset({"LA", "RGBA", "La", "RGBa", "PA"})
"""Pillow's modes with an alpha channel."""
_GREY_16 = {"I;16": "little", "I;16L": "little", "I;16B": "big", "I;16N": sys.byteorder}
_NO_RANGE = frozenset({"I", "F"})
_OPAQUE = (255, 255)


@runtime_checkable
class PillowImage(Protocol):
    """What a Pillow image has; Pillow itself is not needed."""

    @property
    def mode(self) -> str:
        """Pillow's name of the pixel format."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        ...

    @property
    def info(self) -> dict[Any, Any]:
        """What the file said beside its pixels."""
        ...

    def convert(self, mode: str) -> "PillowImage":
        """Return the image in another pixel format."""
        ...

    def getchannel(self, channel: str) -> "PillowImage":
        """Return one channel as a grey image."""
        ...

    def getextrema(self) -> Any:
        """Return the least and the largest sample."""
        ...

    def tobytes(self) -> bytes:
        """Return the pixels."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Image:
    """One image to send, made by one of the class methods and equal to itself only.

    Used by several items of a request, the same object is sent once.
    """

    content: bytes | None = None
    """A compressed file, or with `shape` the pixels."""
    shape: tuple[int, int] | None = None
    """Height and width of pixels."""
    address: str | None = None
    channels: int = RGB
    """Bytes of each pixel: 3 of RGB, or 4 of RGBA."""

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a compressed image file, now.

        Raises:
            OSError: The file cannot be read.
        """
        return cls(content=Path(path).read_bytes())

    @classmethod
    def data(cls, content: bytes | bytearray | memoryview) -> Self:
        """Take the bytes of a compressed image file."""
        return cls(content=bytes(content))

    @classmethod
    def url(cls, address: str) -> Self:
        """Name an image that the service is to fetch; it may refuse to."""
        return cls(address=address)

    @classmethod
    def raw(cls, pixels: Any, height: int | None = None, width: int | None = None, channels: int | None = None) -> Self:
        """Take RGB or RGBA pixels; they score like a PNG of them and need no encoding.

        Args:
            pixels: `[height, width, 3]` or `[height, width, 4]` uint8 with a buffer or an `__array_interface__` (a
                numpy array, say), or flat bytes, row by row, with height and width given. The colours of RGBA are
                not multiplied by their alpha.
            height: Pixels; may be left out where `pixels` has a shape.
            width: Pixels; likewise.
            channels: 3 or 4; may be left out, and is 3 for flat bytes then.

        Raises:
            UsageError: Not uint8, neither RGB nor RGBA, or of another size.
        """
        content, shape = _read_pixels(pixels)
        given = (height, width) if height is not None and width is not None else None
        size = given or (shape[:2] if len(shape) == _DIMENSIONS else None)
        if size is None:
            raise UsageError("Flat pixels need a height and a width.")
        depth = channels if channels is not None else shape[2] if len(shape) == _DIMENSIONS else RGB
        fits = len(shape) == 1 or shape == (*size, depth)
        if depth not in (RGB, _RGBA) or not fits or min(size) < 1 or len(content) != size[0] * size[1] * depth:
            expected = channels if channels in (RGB, _RGBA) else "3 or 4"
            raise UsageError(f"Pixels must be {size[0]} x {size[1]} x {expected} uint8; these are {shape}.")
        return cls(content=content, shape=(size[0], size[1]), channels=depth)

    @classmethod
    def of(cls, pixels: RawPixels) -> Self:
        """Take what was read of an array."""
        return cls(content=pixels.content, shape=(pixels.height, pixels.width), channels=pixels.channels)

    @classmethod
    def pil(cls, image: PillowImage) -> Self:
        """Take a Pillow image as pixels: RGBA if anything of it is transparent, which the service treats as in files.

        Pixels are taken as they are: an orientation tag of the file that they came from is not applied. 16-bit grey
        keeps its upper 8 bits, as the service does with files.

        Raises:
            UsageError: Its samples have no agreed range (modes `I` and `F`), or Pillow cannot make RGB of it.
        """
        if image.mode in _NO_RANGE:
            raise UsageError(f"The range of samples of mode {image.mode} is not agreed on; scale them to 8 or 16 bits.")
        width, height = image.size
        if image.mode in _GREY_16:
            content, channels = _read_grey16(image)
            return cls.raw(content, height, width, channels)
        if _may_be_transparent(image):
            image = _converted(image.convert("LA") if image.mode == "La" else image, "RGBA")
            if image.getchannel("A").getextrema() != _OPAQUE:
                return cls.raw(image.tobytes(), height, width, _RGBA)
        return cls.raw(_converted(image, "RGB").tobytes(), height, width)

    def __repr__(self) -> str:
        # Neither contents nor addresses, which may be signed.
        if self.content is None:
            return "Image(url)"
        size = "" if self.shape is None else f"{self.shape[0]} x {self.shape[1]}, "
        return f"Image({size}{len(self.content)} bytes)"


@runtime_checkable
class Pixels(Protocol):
    """What arrays have that describe their memory as numpy's do; numpy itself is not needed."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Shape, type and place of the pixels."""
        ...


ImageLike: TypeAlias = Image | os.PathLike[str] | bytes | bytearray | memoryview | PillowImage | Tensor | Array | Pixels
"""What is an image without doubt. A str is none: it could be a path, an address or a text."""


def image_of(given: ImageLike) -> Image:
    """Make an `Image` of what is one without doubt.

    Raises:
        UsageError: It is none, or its pixels are of another shape or type than `arrays` reads.
        OSError: It is a path, and the file cannot be read.
    """
    if isinstance(given, Image):
        return given
    if isinstance(given, os.PathLike):
        return Image.file(given)
    if isinstance(given, bytes | bytearray) or (isinstance(given, memoryview) and given.ndim == 1):
        return Image.data(given)
    if isinstance(given, PillowImage):
        return Image.pil(given)
    if isinstance(given, Tensor | Array):
        return Image.of(arrays.read_one(given))
    if isinstance(given, memoryview | Pixels):
        return Image.raw(given)
    hint = ": Image.file(path) and Image.url(address) make one of a str" if isinstance(given, str) else ""
    raise UsageError(f"{type(given).__name__} is no image{hint}.")


def images_within(given: object) -> list[Image] | None:
    """Make the images of an array of several; None where it is none.

    Raises:
        UsageError: Its pixels are of another shape or type than `arrays` reads.
    """
    return [Image.of(each) for each in arrays.read_several(given)] if arrays.holds_several(given) else None


def _may_be_transparent(image: PillowImage) -> bool:
    if image.mode == "P" and getattr(getattr(image, "palette", None), "mode", "") == "RGBA":
        return True  # as Pillow makes one of RGBA; a PNG of it keeps the alpha
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _converted(image: PillowImage, mode: str) -> PillowImage:
    if image.mode == mode:
        return image
    try:
        return image.convert(mode)
    except ValueError as error:
        raise UsageError(f"Pillow makes no {mode} of the mode {image.mode}.") from error


def _read_grey16(image: PillowImage) -> tuple[bytes, int]:
    """The pixels of 16-bit grey, by the upper bytes of its samples, and the number of their channels."""
    samples, order = image.tobytes(), _GREY_16[image.mode]
    upper = samples[order == "little" :: 2]
    clear = image.info.get("transparency")
    channels = [upper] * RGB
    if isinstance(clear, int):
        sample = min(max(clear, 0), 0xFFFF).to_bytes(2, "big")
        channels.append(_opaque_where_not(sample, upper, samples[order == "big" :: 2]))
    pixels = bytearray(len(channels) * len(upper))
    for number, channel in enumerate(channels):
        pixels[number :: len(channels)] = channel
    return bytes(pixels), len(channels)


def _opaque_where_not(sample: bytes, upper: bytes, lower: bytes) -> bytes:
    """255 for each sample of two bytes that is another than the given one, 0 for each that is this one."""
    differ = [
        int.from_bytes(each.translate(bytes(255 * (value != byte) for value in range(256))), "big")
        for byte, each in zip(sample, (upper, lower), strict=True)
    ]
    return (differ[0] | differ[1]).to_bytes(len(upper), "big")


def _read_pixels(pixels: Any) -> tuple[bytes, tuple[int, ...]]:
    try:
        view = memoryview(pixels)
    except TypeError:
        return _read_interface(pixels)
    if view.format != "B":
        raise UsageError(f"Pixels must be uint8; these have the format {view.format!r}.")
    return view.tobytes(), view.shape or (view.nbytes,)


def _read_interface(pixels: Any) -> tuple[bytes, tuple[int, ...]]:
    """Read the pixels of an object that describes its memory as numpy arrays do."""
    described = getattr(pixels, "__array_interface__", None)
    if not isinstance(described, dict):
        raise UsageError(f"{type(pixels).__name__} has neither a buffer nor an __array_interface__.")
    if described["typestr"] != "|u1" or described.get("strides") is not None:
        raise UsageError("Pixels must be uint8, in one piece, row by row.")
    shape = tuple(int(length) for length in described["shape"])
    num_bytes = 1
    for length in shape:
        num_bytes *= length
    data: Any = described.get("data")
    if isinstance(data, tuple):
        return ctypes.string_at(data[0], num_bytes), shape
    return bytes(memoryview(data))[described.get("offset", 0) :][:num_bytes], shape
