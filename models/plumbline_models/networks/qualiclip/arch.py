"""The sizes of a CLIP ResNet as QualiCLIP uses it; plain numbers, no framework."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from plumbline_models.core.errors import UnknownArchError
from plumbline_models.networks.clip.archs import Arch

EXPANSION: Final = 4
"""Channels that leave a bottleneck, for each channel inside."""
NUM_STAGES: Final = 4
MIN_SIDE_PX: Final = 31
"""A stride rounded up and four averages rounded down leave one row of 31 pixels, and none of 30."""


@dataclass(frozen=True, slots=True)
class TrunkArch:
    """Four stages of bottlenecks behind a stem, and the heads of the pool."""

    layers: tuple[int, ...]
    """Bottlenecks of each stage."""
    width: int
    """Channels that leave the stem."""
    head_width: int
    """Channels of one head of the pool."""
    embed_dim: int

    @classmethod
    def of(cls, arch: Arch) -> "TrunkArch":
        """Read open_clip's settings.

        Raises:
            UnknownArchError: The image tower is no CLIP ResNet.
        """
        vision = arch.vision
        layers = vision.get("layers")
        if not isinstance(layers, Sequence) or len(layers) != NUM_STAGES or vision.get("timm_model_name"):
            raise UnknownArchError(
                f"qualiclip needs a CLIP ResNet, such as RN50-quickgelu; {arch.name} is none.", arch=arch.name
            )
        width, head_width = int(vision.get("width", 64)), int(vision.get("head_width", 64))
        return cls(tuple(int(count) for count in layers), width, head_width, arch.embed_dim)

    @property
    def num_channels(self) -> int:
        """Channels that leave the last stage."""
        return self.width * EXPANSION * 2 ** (NUM_STAGES - 1)

    @property
    def num_heads(self) -> int:
        """Heads of the pool."""
        return self.num_channels // self.head_width
