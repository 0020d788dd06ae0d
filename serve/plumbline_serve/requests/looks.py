"""What the images decoded lately are like, by their content, for whoever watches how that changes."""

from typing import Final

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.images.image_statistics import ImageStatistics, statistics_of

_MAX_IMAGES: Final = 2**14


class ImageLooks:
    """Of the images that were decoded last; for any thread."""

    def __init__(self) -> None:
        self._known: ByteBoundedCache[bytes, ImageStatistics] = ByteBoundedCache(_MAX_IMAGES, lambda _: 1)

    def look(self, digest: bytes, pixels: Pixels) -> None:
        """Look at an image; some hundred microseconds.

        Args:
            digest: Of its content.
            pixels: Decoded.
        """
        self._known.put(digest, statistics_of(pixels))

    def get(self, digest: bytes) -> ImageStatistics | None:
        """What the image is like, if it was decoded lately."""
        return self._known.get(digest)
