"""open_clip's own towers, one at a time, without weights.

Its classes build both towers. The one that is not asked for is built as small as it can be and dropped: for the
largest architectures that saves gigabytes.
"""

from collections.abc import Mapping
from typing import Any, Final

import open_clip
from torch import nn

from plumbline_models.core.errors import UnknownArchError
from plumbline_models.networks.clip.archs import Arch

_SMALL_IMAGE: Final = {"image_size": 32, "patch_size": 32, "width": 64, "head_width": 64, "layers": 1}
_SMALL_TEXT: Final = {"context_length": 2, "vocab_size": 2, "width": 64, "heads": 1, "layers": 1}


def build_image_tower(arch: Arch) -> nn.Module:
    """The image tower: `[N, 3, H, W]` to `[N, D]`, or to a tuple that begins with it.

    Raises:
        UnknownArchError: open_clip or timm cannot build it.
    """
    tower: nn.Module = _build(arch, vision=arch.vision, text=_SMALL_TEXT).visual
    return tower


def build_text_tower(arch: Arch) -> nn.Module:
    """The text tower: `[N, context length]` to `[N, D]`, or to a tuple that begins with it.

    Raises:
        UnknownArchError: open_clip or transformers cannot build it.
    """
    tower: nn.Module = _build(arch, vision=_SMALL_IMAGE, text=arch.text).text
    return tower


def _build(arch: Arch, *, vision: Mapping[str, Any], text: Mapping[str, Any]) -> Any:
    """A CLIP whose text tower is a module of its own, as it is in every class of open_clip but the oldest."""
    try:
        # False: else weights of other tasks are fetched, only to be overwritten.
        vision_cfg = open_clip.CLIPVisionCfg(**{**vision, "timm_model_pretrained": False})
        text_cfg = open_clip.CLIPTextCfg(**{**text, "hf_model_pretrained": False})
        return open_clip.CustomTextCLIP(arch.embed_dim, vision_cfg, text_cfg, quick_gelu=arch.has_quick_gelu)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, OSError) as error:
        raise UnknownArchError(f"open_clip cannot build the towers of {arch.name}.", arch=arch.name) from error
