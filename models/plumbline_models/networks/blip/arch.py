"""The sizes of ImageReward's network; plain numbers, no framework."""

from dataclasses import dataclass
from typing import Final

IMAGE_PX: Final = 224
MAX_TOKENS: Final = 35
"""Of a text, both ends included: what the authors' program cuts at."""
VISION_HEAD_WIDTH: Final = 64
"""No file says the number of the image tower's heads; its authors' code has this width for each."""
VISION_EPSILON: Final = 1e-6
TEXT_EPSILON: Final = 1e-12


@dataclass(frozen=True, slots=True)
class BlipArch:
    """Image tower and text encoder."""

    patch_px: int
    image_width: int
    num_image_blocks: int
    text_width: int
    num_text_blocks: int
    num_text_heads: int
    text_ffn_width: int
    num_words: int
    num_positions: int
    """That a text may have."""

    @property
    def num_image_heads(self) -> int:
        """Of the image tower."""
        return self.image_width // VISION_HEAD_WIDTH

    @property
    def num_image_tokens(self) -> int:
        """Patches, and the class token before them."""
        return (IMAGE_PX // self.patch_px) ** 2 + 1
