"""A SigLIP's sizes as the transformers library writes them, in open_clip's words.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv:2303.15343; Tschannen et al., "SigLIP 2",
arXiv:2502.14786, whose checkpoints of fixed resolution have the same layout and another vocabulary.
"""

from collections.abc import Mapping
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError
from plumbline_models.networks.clip.hugging_face_arch import ratio_of

CLEANING: Final = "cleaning"
"""Of a text tower: what becomes of texts before the library's tokenizer, where it is not what open_clip does. SigLIP 2
was trained on texts in lower case; SigLIP's tokenizer takes punctuation and capitals away itself."""
SIGLIP_PREPROCESS: Final[Mapping[str, Any]] = {"mean": 0.5, "std": 0.5, "resize_mode": "squash"}
"""What SigLIP's processor does where its file says nothing else."""
_USUAL: Final[Mapping[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_USUAL_TEXT: Final = {**_USUAL, "vocab_size": 32000, "max_position_embeddings": 64}
_USUAL_VISION: Final = {**_USUAL, "image_size": 224, "patch_size": 16, "vision_use_head": True}
_SIGLIP_2: Final = 256000
_TOKENIZERS: Final = {32000: "google/siglip-base-patch16-224", _SIGLIP_2: "google/siglip2-base-patch16-224"}
"""By vocabulary: whose tokenizer stands in where a folder has none; all checkpoints of one size share it."""


def is_transformers_siglip(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a `SiglipModel`, or of the kind of SigLIP 2 that is not read.

    Raises:
        CheckpointError: It is a SigLIP 2 of variable resolution.
    """
    if values.get("model_type") == "siglip2":
        raise CheckpointError(
            "The checkpoint is a SigLIP 2 of variable resolution (NaFlex), which is not read here; "
            "those of fixed resolution are."
        )
    return values.get("model_type") == "siglip"


def siglip_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """What open_clip calls `model_cfg`, of a `SiglipModel`'s `config.json`.

    Raises:
        CheckpointError: It describes something that SigLIP's two towers are not.
    """
    try:
        text = {**_USUAL_TEXT, **(values.get("text_config") or {})}
        vision = {**_USUAL_VISION, **(values.get("vision_config") or {})}
        if {text["hidden_act"], vision["hidden_act"]} != {"gelu_pytorch_tanh"} or not vision["vision_use_head"]:
            raise CheckpointError("The checkpoint's config.json has layers that no SigLIP has.")
        vocabulary = int(text["vocab_size"])
        return {
            "embed_dim": int(vision["hidden_size"]),
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
                "vocab_size": vocabulary,
                "hf_tokenizer_name": _TOKENIZERS.get(vocabulary, _TOKENIZERS[32000]),
                CLEANING: "lower" if vocabulary == _SIGLIP_2 else "none",
            },
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError("The checkpoint's config.json does not hold a SigLIP's sizes.") from error


def _block(tower: Mapping[str, Any]) -> dict[str, Any]:
    width = int(tower["hidden_size"])
    return {
        "siglip": True,
        "width": width,
        "layers": int(tower["num_hidden_layers"]),
        "mlp_ratio": ratio_of(int(tower["intermediate_size"]), width),
        "norm_kwargs": {"eps": float(tower["layer_norm_eps"])},
    }
