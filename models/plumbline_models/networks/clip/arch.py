"""The sizes of CLIP's own two towers; plain numbers, no framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline_models.networks.clip.archs import CONTEXT_LENGTH, SIGLIP, VOCAB_SIZE, Arch

_HEAD_WIDTH = 64  # open_clip's default for image towers


@dataclass(frozen=True, slots=True)
class BlockArch:
    """One pre-norm transformer block."""

    width: int
    num_heads: int
    ffn_width: int
    norm_epsilon: float
    has_quick_gelu: bool
    has_tanh_gelu: bool = False
    """Whether GELU is its approximation by tanh."""

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads


@dataclass(frozen=True, slots=True)
class TextArch:
    """CLIP's text tower: causal, read at its end-of-text token."""

    block: BlockArch
    num_blocks: int
    context_length: int
    """Positions that there are."""
    num_tokens: int
    """Vocabulary."""
    embed_dim: int

    @classmethod
    def of(cls, arch: Arch) -> "TextArch":
        """Read open_clip's settings; meant for an architecture that `has_clip_text`."""
        text = arch.text
        return cls(
            block=_block(arch, text, int(text.get("width", 512)), num_heads=int(text.get("heads", 8))),
            num_blocks=int(text.get("layers", 12)),
            context_length=int(text.get("context_length", CONTEXT_LENGTH)),
            num_tokens=int(text.get("vocab_size", VOCAB_SIZE)),
            embed_dim=arch.embed_dim,
        )


@dataclass(frozen=True, slots=True)
class ImageArch:
    """CLIP's vision transformer, read at its class token."""

    block: BlockArch
    num_blocks: int
    patch_px: int
    num_patches: int
    embed_dim: int

    @classmethod
    def of(cls, arch: Arch) -> "ImageArch":
        """Read open_clip's settings; meant for an architecture that `has_clip_image`."""
        vision = arch.vision
        width, patch_px = int(vision.get("width", 768)), int(vision.get("patch_size", 16))
        height_px, width_px = arch.image_size_px
        return cls(
            block=_block(arch, vision, width, num_heads=width // int(vision.get("head_width", _HEAD_WIDTH))),
            num_blocks=int(vision.get("layers", 12)),
            patch_px=patch_px,
            num_patches=(height_px // patch_px) * (width_px // patch_px),
            embed_dim=arch.embed_dim,
        )


def _block(arch: Arch, tower: Mapping[str, Any], width: int, *, num_heads: int) -> BlockArch:
    norm = tower.get("norm_kwargs")
    ratio = tower.get("mlp_ratio", 4.0)
    return BlockArch(
        width=width,
        num_heads=num_heads,
        ffn_width=int(width * ratio) if isinstance(ratio, int | float) else 4 * width,
        norm_epsilon=float(norm.get("eps", 1e-5)) if isinstance(norm, dict) else 1e-5,
        has_quick_gelu=arch.has_quick_gelu,
        has_tanh_gelu=bool(tower.get(SIGLIP)),
    )
