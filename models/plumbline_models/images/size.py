"""How large an image may be, by its header, before anything is decoded.

`limits.max_pixels` bounds the area. It does not bound what thin images cost: a resize needs a list of weights for each
row or column of the source, and Pillow a pointer for each row. A PNG of 1 x 49,000,000 pixels (95 kB) took 0.57 GB and
2 s to decode and 2.1 GB and 6 s to squash. Up to the side below, no shape was found that costs more than a square of as
many pixels does (docs/images.md has the measurements), so the ratio of the sides needs no bound of its own.
"""

from typing import Final

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError

MAX_SIDE_PX: Final = 65_536
"""More than a JPEG, WebP or AVIF can have; a scroll of 50 million pixels this long is 763 wide."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Compare a size in pixels with the limits.

    Args:
        width: As the header says.
        height: As the header says.
        max_pixels: The largest area.

    Raises:
        ImageUndecodableError: A side is not positive.
        ImageTooLargeError: There are more pixels than allowed, or a side is longer than 65536.
    """
    if width <= 0 or height <= 0:
        raise ImageUndecodableError("The image has no pixels.", width=width, height=height)
    if width * height > max_pixels:
        raise ImageTooLargeError("The image has more pixels than allowed.", num_pixels=width * height, limit=max_pixels)
    check_sides(width, height)


def check_sides(width: int, height: int) -> None:
    """Compare the sides with what preprocessing can afford.

    Args:
        width: In pixels.
        height: In pixels.

    Raises:
        ImageTooLargeError: A side is longer than 65536 pixels.
    """
    if max(width, height) > MAX_SIDE_PX:
        raise ImageTooLargeError(
            f"A side of the image is longer than {MAX_SIDE_PX} pixels.", side_px=max(width, height), limit=MAX_SIDE_PX
        )
