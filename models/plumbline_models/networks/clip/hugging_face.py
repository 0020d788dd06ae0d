"""Tensors of a Hugging Face `CLIPModel` or `SiglipModel`, under open_clip's names.

The two hold the same numbers: queries, keys and values lie in three matrices there and in one here, and both output
projections are transposed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from plumbline_models.core.errors import StateDictError

_RENAMED: Final = (
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),  # spelt so in the published files
    ("vision_model.pre_layernorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.head.attention.", "visual.head.attn."),  # of SigLIP, as the next two
    ("vision_model.head.", "visual.head."),
    ("text_model.head.", "text_projection."),
)
_IN_BLOCKS: Final = (
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)
_TRANSPOSED: Final = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_PARTS: Final = ("q", "k", "v")


def is_hugging_face(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a `CLIPModel` or a `SiglipModel`."""
    return any(name.startswith(("text_model.", "vision_model.")) for name in tensors)


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a `CLIPModel`'s tensors open_clip's names and shapes.

    Raises:
        StateDictError: A query, key or value has not the other two beside it.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _TRANSPOSED:
            renamed[_TRANSPOSED[name]] = tensor.T.contiguous()
        elif ".self_attn.q_proj." in name:
            joined = _rename_one(name).replace(".self_attn.q_proj.", ".attn.in_proj_")
            renamed[joined] = _join(tensors, name)
        elif not any(f".self_attn.{part}_proj." in name for part in _PARTS) and not name.endswith("position_ids"):
            renamed[_rename_one(name)] = tensor
    return renamed


def stated_activation(checkpoint: Path) -> str | None:
    """Which activation the `config.json` beside a checkpoint states, such as `quick_gelu`; None: it states none."""
    try:
        config = json.loads(checkpoint.with_name("config.json").read_text(encoding="utf-8"))
        towers: list[Any] = [config.get("text_config") or {}, config.get("vision_config") or {}]
        stated = {tower.get("hidden_act") for tower in towers} - {None}
    except (OSError, ValueError, AttributeError):
        return None
    return str(stated.pop()) if len(stated) == 1 else None


def _rename_one(name: str) -> str:
    for old, new in _RENAMED:
        if name.startswith(old):
            name = new + name.removeprefix(old)
    for old, new in _IN_BLOCKS:
        name = name.replace(old, new)
    return name


def _join(tensors: Mapping[str, Tensor], query: str) -> Tensor:
    names = [query.replace(".q_proj.", f".{part}_proj.") for part in _PARTS]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise StateDictError(f"The checkpoint has {query} but not {missing[0]}.", missing=missing)
    return torch.cat([tensors[name] for name in names])
