"""The sizes of a CLIP-FlanT5: image tower, projector, T5 encoder and decoder; plain numbers, no framework.

The tower's configuration has one of two layouts, that of the Hugging Face library or open_clip's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError

DEFAULT_TOWER: Final = "openai/clip-vit-large-patch14-336"
KNOWN_TOWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    DEFAULT_TOWER: {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
}
"""Sizes of towers by their hub name, so that they need not be fetched to be known."""


@dataclass(frozen=True, slots=True)
class TowerArch:
    """A CLIP vision transformer, cut after the block whose output is used, and the projector behind it."""

    image_px: int
    """Side of the square input, pixels."""
    patch_px: int
    width: int
    num_blocks: int
    """Blocks that run: `hidden_states[-2]` of a tower of 24 is the output of 23."""
    num_heads: int
    ffn_width: int
    norm_epsilon: float
    has_quick_gelu: bool
    mean: tuple[float, float, float]
    """Of pixels in 0..1, red, green, blue."""
    std: tuple[float, float, float]
    projected_width: int

    @property
    def num_patches(self) -> int:
        """Tokens that one image adds to the encoder's input."""
        return (self.image_px // self.patch_px) ** 2


@dataclass(frozen=True, slots=True)
class T5Arch:
    """A T5 version 1.1 encoder-decoder with gated feed-forward layers and an untied head."""

    width: int
    head_width: int
    num_heads: int
    ffn_width: int
    num_encoder_blocks: int
    num_decoder_blocks: int
    num_buckets: int
    """Relative-position buckets, of both stacks."""
    max_distance: int
    """From this distance on, in tokens, all positions share the last bucket."""
    norm_epsilon: float
    num_tokens: int
    """Scored vocabulary: the tokenizer's length, not the larger table that the checkpoint stores."""
    start_id: int
    """What the decoder reads at its first position."""

    @property
    def inner_width(self) -> int:
        """All heads side by side; need not be `width`."""
        return self.num_heads * self.head_width


def vision_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tower's sizes, in the Hugging Face library's words, of a `config.json` of either layout.

    Raises:
        CheckpointError: open_clip's layout holds something else than a vision transformer's sizes.
    """
    if "model_cfg" in config:
        return _of_open_clip(config["model_cfg"])
    nested = config.get("vision_config")
    return nested if isinstance(nested, Mapping) else config


def _of_open_clip(sizes: Any) -> Mapping[str, Any]:
    try:
        vision = sizes["vision_cfg"]
        width = vision["width"]
        return {
            "hidden_size": width,
            "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": width // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": "quick_gelu" if sizes.get("quick_gelu") else "gelu",
            "layer_norm_eps": 1e-5,
        }
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError("The tower's configuration is not that of a vision transformer.") from error
