"""What a CLIP-FlanT5's configurations say of its image tower, in either layout; plain values, no framework."""

from collections.abc import Mapping
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


def vision_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tower's sizes, in the Hugging Face library's words, of a `config.json` of either layout.

    Raises:
        CheckpointError: open_clip's layout holds something else than a vision transformer's sizes.
    """
    if "model_cfg" in config:
        return _of_open_clip(config["model_cfg"])
    nested = config.get("vision_config")
    return nested if isinstance(nested, Mapping) else config


def is_squashed(preprocessor: Mapping[str, Any]) -> bool:
    """Whether images are resized to a height and a width, whatever their aspect, and nothing is cut off."""
    size = preprocessor.get("size")
    return isinstance(size, Mapping) and "height" in size and not preprocessor.get("do_center_crop", True)


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
