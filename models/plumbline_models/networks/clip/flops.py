"""How much work a tower is, roughly: GFLOP an input, a multiply-add counted as two.

Transformers are counted by their matrix products; what open_clip takes from timm or transformers, whose sizes its
configuration does not state, is taken for a ViT-B/16 or a text tower of CLIP's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from plumbline_models.networks.clip.archs import Arch

_GIGA: Final = 1e9
_UNKNOWN_IMAGE: Final = 35.0  # ViT-B/16 at 224 pixels
_RN50: Final = 12.0  # OpenAI's RN50 at 224 pixels: 16 blocks of width 64
_RN50_BLOCKS: Final = 16
_RN50_WIDTH: Final = 64
_RN50_PX: Final = 224


def image_gflop(arch: Arch) -> float:
    """GFLOP an image."""
    vision = arch.vision
    height_px, width_px = arch.image_size_px
    if vision.get("timm_model_name"):
        return _UNKNOWN_IMAGE
    layers, width = vision.get("layers", 12), int(vision.get("width", 768))
    if isinstance(layers, Sequence):
        scale = sum(layers) / _RN50_BLOCKS * (width / _RN50_WIDTH) ** 2
        return float(_RN50 * scale * height_px * width_px / _RN50_PX**2)
    patch_px = int(vision.get("patch_size", 16))
    num_patches = (height_px // patch_px) * (width_px // patch_px)
    stem = 2 * num_patches * 3 * patch_px**2 * width / _GIGA
    return stem + _blocks(vision, num_patches + 1, width, num_blocks=int(layers))


def text_gflop(arch: Arch, num_tokens: int) -> float:
    """GFLOP a text of that many tokens, both ends included; other towers than CLIP's take the whole context.

    Args:
        arch: Says the sizes.
        num_tokens: Of the text.
    """
    text = arch.text
    length = num_tokens if arch.has_clip_text else arch.context_length
    return _blocks(text, length, int(text.get("width", 512)), num_blocks=int(text.get("layers", 12)))


def _blocks(tower: Mapping[str, Any], length: int, width: int, *, num_blocks: int) -> float:
    weights = (4 + 2 * float(tower.get("mlp_ratio", 4.0))) * width**2
    return num_blocks * (2 * length * weights + 4 * length**2 * width) / _GIGA
