"""A CLIP's sizes as the transformers library writes them, in open_clip's words.

`config.json` leaves out what has its usual value; `preprocessor_config.json`, which may be missing, says how images are
resized and normalised.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError
from plumbline_models.images.preprocess_spec import is_squashed

PREPROCESSOR: Final = "preprocessor_config.json"
_USUAL: Final[Mapping[str, Any]] = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
_USUAL_TEXT: Final[Mapping[str, Any]] = {
    **_USUAL,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
}
_USUAL_VISION: Final[Mapping[str, Any]] = {
    **_USUAL,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
_VOCAB_SIZE: Final = 49408
_STEPS: Final = ("do_resize", "do_rescale", "do_normalize")
_OF_BYTES: Final = 1 / 255
_FILTERS: Final = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def is_transformers_clip(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a `CLIPModel`."""
    return values.get("model_type") == "clip" and "model_cfg" not in values


def model_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """What open_clip calls `model_cfg`, of a `CLIPModel`'s `config.json`.

    Raises:
        CheckpointError: It describes something that CLIP's two towers are not.
    """
    try:
        text, vision = _tower(values, "text_config", _USUAL_TEXT), _tower(values, "vision_config", _USUAL_VISION)
        activations = {text["hidden_act"], vision["hidden_act"]}
        if text["vocab_size"] != _VOCAB_SIZE:
            raise CheckpointError("The checkpoint's config.json has another vocabulary than CLIP's.")
        if len(activations) != 1 or not activations <= {"quick_gelu", "gelu"}:
            raise CheckpointError("The checkpoint's config.json has activations that no CLIP has.", found=activations)
        return {
            "embed_dim": int(values.get("projection_dim", 512)),
            "quick_gelu": activations == {"quick_gelu"},
            "vision_cfg": {
                **_block(vision),
                "image_size": int(vision["image_size"]),
                "patch_size": int(vision["patch_size"]),
                "head_width": int(vision["hidden_size"]) // int(vision["num_attention_heads"]),
            },
            "text_cfg": {
                **_block(text),
                "heads": int(text["num_attention_heads"]),
                "context_length": int(text["max_position_embeddings"]),
                "vocab_size": int(text["vocab_size"]),
            },
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError("The checkpoint's config.json does not hold a CLIP's sizes.") from error


def preprocess_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What open_clip calls `preprocess_cfg`, of a `preprocessor_config.json`.

    Raises:
        CheckpointError: It resizes with a filter that is not read here, crops less than it resizes to, or leaves a step
            out.
    """
    found: dict[str, Any] = {}
    left_out = [step for step in _STEPS if settings.get(step) is False]
    if left_out or not math.isclose(settings.get("rescale_factor") or _OF_BYTES, _OF_BYTES, rel_tol=1e-3):
        step = left_out[0] if left_out else "rescale_factor"
        raise CheckpointError(f"The {PREPROCESSOR} has another {step} than CLIP's, which is not read here.")
    if "resample" in settings:
        if settings["resample"] not in _FILTERS:
            raise CheckpointError(f"The {PREPROCESSOR} resizes with a filter that is neither bicubic nor bilinear.")
        found["interpolation"] = _FILTERS[settings["resample"]]
    size, crop = _side(settings.get("size")), _side(settings.get("crop_size"))
    if settings.get("do_center_crop", True) and None not in (size, crop) and size != crop:
        raise CheckpointError(f"The {PREPROCESSOR} resizes to {size} px and crops {crop}; only equal sizes are read.")
    if size is not None:
        found["resize_mode"] = "squash" if is_squashed(settings) else "shortest"
    return {**found, **{ours: settings[f"image_{ours}"] for ours in ("mean", "std") if f"image_{ours}" in settings}}


def ratio_of(inner: int, width: int) -> float:
    """What open_clip multiplies a width with, and rounds down, to come to another.

    Args:
        inner: Of the layer inside of a block.
        width: Of the block.
    """
    ratio = inner / width
    return ratio if int(width * ratio) == inner else math.nextafter(ratio, math.inf)


def _side(size: Any) -> Any:
    """The short side, or the height; None where neither is said."""
    return size.get("shortest_edge", size.get("height")) if isinstance(size, Mapping) else size


def _tower(values: Mapping[str, Any], key: str, usual: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**usual, **(values.get(key) or {}), **(values.get(f"{key}_dict") or {})}  # the second is of old files


def _block(tower: Mapping[str, Any]) -> dict[str, Any]:
    width, epsilon = int(tower["hidden_size"]), float(tower["layer_norm_eps"])
    ratio = ratio_of(int(tower["intermediate_size"]), width)
    block = {"width": width, "layers": int(tower["num_hidden_layers"]), "mlp_ratio": ratio}
    return block if epsilon == _USUAL["layer_norm_eps"] else {**block, "norm_kwargs": {"eps": epsilon}}
