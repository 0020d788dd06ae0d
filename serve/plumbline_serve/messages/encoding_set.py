"""A set of images as a request has it; what is asked of it stands in `sets`."""

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline_serve.messages.images import ImageSource


@dataclass(frozen=True, slots=True)
class EncodingSet:
    """A set in one of three forms; the others are empty."""

    images: Sequence[ImageSource] = ()
    embeddings: Sequence[Sequence[float] | str | bytes] = ()
    """Numbers, or little-endian float32 as `/v1/embed` answers, in base64, or as `Embed` does; of any length."""
    hashes: Sequence[str] = ()
    """SHA-256, in hex, of image files that this process has encoded before and still keeps."""
    encoder: str | None = None
    """What made `embeddings`, in the caller's words: sets of different encoders are not compared."""

    @property
    def num_members(self) -> int:
        """How many there are, of all three forms."""
        return len(self.images) + len(self.embeddings) + len(self.hashes)
