"""Adapters merged into a CLIP's tensors, so that what is compiled is one dense network.

LoRA (Hu et al., arXiv:2106.09685) as `peft` saves it: `V = W + scale * B A`, the scale from `adapter_config.json`. DoRA
(Liu et al., arXiv:2402.09353) likewise: `m V / |V|`, each output with a norm and a magnitude m of its own. Singular
values (CLIP-SVD, Koleilat et al., arXiv:2509.03740): `U diag(s) V'`, with U and V of the weights' own decomposition and
s from the file, one vector a layer, named as the layer is with `.S` behind it; whole checkpoints of CLIP-SVD's own
program are read by `decomposed`. Where open_clip joins queries, keys and
values in one matrix, an adapter of one of them changes its third of it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from plumbline_models.core.errors import CheckpointError, StateDictError
from plumbline_models.networks.clip.beside import ADAPTER_CONFIG
from plumbline_models.weights.folders import read_json
from plumbline_models.weights.loading import read_tensors

Tensors = Mapping[str, Tensor]
_LORA: Final = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")
_MAGNITUDE: Final = re.compile(r"(?:base_model\.model\.)?.+\.lora_magnitude_vector(?:\.default)?(?:\.weight)?")
_WHOLE: Final = re.compile(
    r"(?:base_model\.model\.)?(?P<name>.+?)(?:\.modules_to_save(?:\.default)?)?\.(?P<end>weight|bias)"
)
_SINGULAR: Final = re.compile(r"(?P<layer>.+)\.(?:S|vector_S|singular_values)")
_PARTS: Final = ("q_proj", "k_proj", "v_proj")
_UNREAD: Final = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    **dict.fromkeys(("use_qalora", "use_bdlora", "lora_bias"), (False, None)),
}
"""Of `adapter_config.json`, what decides how an adapter is merged, with the values that are read."""


@dataclass(frozen=True, slots=True)
class Scales:
    """How strongly each layer's LoRA counts.

    Args:
        alpha: Where no pattern says otherwise.
        alpha_of: By a pattern of the layer's name.
        is_root: Whether it is divided by the root of the rank, not by the rank.
        is_transposed: Whether layers hold their inputs first.
        has_magnitudes: Whether it is DoRA, which says how large each output is.
    """

    alpha: float
    alpha_of: Mapping[str, float]
    is_root: bool
    is_transposed: bool
    has_magnitudes: bool

    def of(self, layer: str, rank: int) -> float:
        """Of one layer."""
        matched = (alpha for name, alpha in self.alpha_of.items() if re.match(rf"(.*\.)?({name})$", layer))
        alpha = float(next(matched, self.alpha))
        return alpha / (math.sqrt(rank) if self.is_root else rank)


def merge_adapter(tensors: Tensors, file: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors with an adapter merged into them.

    Args:
        tensors: Float32, by the names that they are stored under.
        file: Of the adapter's tensors; of LoRA with `adapter_config.json` beside it.

    Raises:
        CheckpointError: The adapter is of a kind that is not merged here, or is damaged.
        StateDictError: A layer of it is none of the checkpoint's, or does not fit.
    """
    adapter, config = read_tensors(file), file.with_name(ADAPTER_CONFIG)
    merged = dict(tensors)
    if any(_LORA.fullmatch(name) for name in adapter):
        _merge_lora(merged, adapter, _read_scales(config))
    else:
        _merge_singular(merged, adapter)
    return merged


def _read_scales(file: Path) -> Scales:
    config = read_json(file)
    for key, allowed in _UNREAD.items():
        if key in config and config[key] not in allowed:
            raise CheckpointError(f"The adapter has {key}: {config[key]}, which is not merged here.", path=str(file))
    try:
        return Scales(
            alpha=float(config["lora_alpha"]),
            alpha_of={str(name): float(alpha) for name, alpha in (config.get("alpha_pattern") or {}).items()},
            is_root=bool(config.get("use_rslora")),
            is_transposed=bool(config.get("fan_in_fan_out")),
            has_magnitudes=bool(config.get("use_dora")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"The {file.name} of the adapter is not usable.", path=str(file)) from error


def _merge_lora(merged: dict[str, Tensor], adapter: Tensors, scales: Scales) -> None:
    magnitudes = {name for name in adapter if scales.has_magnitudes and _MAGNITUDE.fullmatch(name)}
    for name, tensor in adapter.items():
        found = _LORA.fullmatch(name)
        if found is None:
            if name not in magnitudes:
                _replace(merged, name, tensor)
            continue
        if found["part"] == "B":
            continue
        other = name[: found.start("part")] + "B" + name[found.end("part") :]
        if other not in adapter:
            raise StateDictError(f"The adapter has {name} and not {other}.", name=name)
        layer = found["layer"].replace(".base_layer", "")
        low, high = tensor.flatten(1), adapter[other].flatten(1)
        if low.shape[0] != high.shape[1]:
            raise StateDictError(f"The two parts of the adapter's {layer} do not fit.", name=name)
        change = high @ low * scales.of(layer, low.shape[0])
        if scales.has_magnitudes:
            change = _to_magnitudes(merged, layer, change, _magnitude(adapter, name, magnitudes), scales)
        _change(merged, layer, change.T if scales.is_transposed else change)


def _magnitude(adapter: Tensors, name: str, magnitudes: set[str]) -> Tensor:
    """That of each output of a layer, by the name of its first part."""
    stem = name[: name.index(".lora_A")] + ".lora_magnitude_vector"
    found = next((each for each in magnitudes if each.startswith(stem)), None)
    if found is None:
        raise StateDictError(f"The adapter is DoRA and has no {stem}.", name=stem)
    return adapter[found].flatten()


def _to_magnitudes(merged: Tensors, layer: str, change: Tensor, magnitude: Tensor, scales: Scales) -> Tensor:
    """What changes a layer so that each output has its magnitude."""
    target, rows = _find(merged, layer)
    weight = merged[target][rows].flatten(1)
    weight = weight.T if scales.is_transposed else weight
    if weight.shape != change.shape or len(magnitude) != len(weight):
        raise StateDictError(
            f"The adapter's {layer} is of {list(change.shape)}, with {len(magnitude)} magnitudes, and the checkpoint's "
            f"{target} is not.",
            name=layer,
        )
    turned = weight + change
    return turned * (magnitude / turned.norm(dim=1))[:, None] - weight


def _merge_singular(merged: dict[str, Tensor], adapter: Tensors) -> None:
    for name, stored in adapter.items():
        found, values = _SINGULAR.fullmatch(name), stored.flatten()
        if found is None or len(values) not in stored.shape:
            raise StateDictError(f"The adapter has {name}, which is neither LoRA nor singular values.", name=name)
        target, rows = _find(merged, found["layer"])
        weight = merged[target][rows].flatten(1).double()
        left, own, right = torch.linalg.svd(weight, full_matrices=False)
        if own.shape != values.shape:
            raise StateDictError(f"The adapter's {name} has {len(values)} values, and the layer {len(own)}.", name=name)
        change = (left * (values.double() - own)) @ right
        _change(merged, found["layer"], change.float())


def _replace(merged: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    """A layer that was trained as a whole beside the adapters."""
    found = _WHOLE.fullmatch(name)
    target = f"{found['name']}.{found['end']}" if found else name
    if target not in merged or merged[target].shape != tensor.shape:
        raise StateDictError(f"The adapter has {name}, which is not merged here.", name=name)
    merged[target] = tensor


def _change(merged: dict[str, Tensor], layer: str, change: Tensor) -> None:
    target, rows = _find(merged, layer)
    weight = merged[target].clone()
    if weight[rows].flatten(1).shape != change.shape:
        raise StateDictError(
            f"The adapter's {layer} is of {list(change.shape)}, and the checkpoint's {target} is not.", name=layer
        )
    weight[rows] += change.reshape(weight[rows].shape)
    merged[target] = weight


def _find(tensors: Mapping[str, Any], layer: str) -> tuple[str, slice]:
    """The tensor that holds a layer's weight, and its rows in it.

    Raises:
        StateDictError: There is none.
    """
    parent, _, part = layer.rpartition(".")
    for target in (f"{layer}.weight", f"{layer}.in_proj_weight", layer, f"{parent}.out_{part}.weight"):
        if target in tensors:
            return target, slice(None)
    joined = f"{parent}.in_proj_weight"
    if part in _PARTS and joined in tensors:
        height = len(tensors[joined]) // len(_PARTS)
        first = _PARTS.index(part) * height
        return joined, slice(first, first + height)
    raise StateDictError(f"The adapter changes {layer}, which the checkpoint has not.", name=layer)
