"""Tensors of a CLIP whose layers were trained as their singular values, multiplied out again.

CLIP-SVD (Koleilat et al., arXiv:2509.03740) saves the whole network, as its program holds it: `U diag(s) V` in place of
each layer, the two bases as layers called `…_U` and `…_V` (`conv_U` in the program that it builds on, Sun et al.,
arXiv:2206.06122), the values as `vector_S` of shape `[1, rank, …]`, and attention with queries, keys and values apart,
`proj` behind them. Under open_clip's names they are one layer, one matrix and `out_proj`.
"""

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from plumbline_models.core.errors import StateDictError

VALUES: Final = ".vector_S"
_BASIS: Final = re.compile(r"(?P<layer>.+)\.\w+_(?P<side>[UV])\.(?P<kind>weight|bias)")
_PARTS: Final = ("q_proj", "k_proj", "v_proj")
_FIRST: Final = re.compile(r"(?P<attention>.+\.attn)\.q_proj\.(?P<kind>weight|bias)")
_TIMM: Final = ".trunk."
"""In the names of towers of timm, which join to `qkv` and call what is behind it `proj` themselves."""


def recompose(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors with their layers multiplied out; those of a network that holds no bases as they are.

    Args:
        tensors: Float32, by the names that they are stored under.

    Raises:
        StateDictError: A layer lacks a basis or its values, or they do not fit.
    """
    found = [match for name in tensors if (match := _BASIS.fullmatch(name)) is not None]
    layers = dict.fromkeys(each["layer"] for each in found if each["layer"] + VALUES in tensors)
    if not layers:
        return tensors
    bases = {(each["layer"], each["side"], each["kind"]): each.string for each in found if each["layer"] in layers}
    used = {*bases.values(), *(layer + VALUES for layer in layers)}
    whole = {name: tensor for name, tensor in tensors.items() if name not in used}
    for layer in layers:
        whole[f"{layer}.weight"] = _multiply(tensors, layer, bases)
        if (bias := bases.get((layer, "U", "bias"))) is not None:
            whole[f"{layer}.bias"] = tensors[bias]
    return _join(whole)


def _multiply(tensors: Mapping[str, Tensor], layer: str, bases: Mapping[tuple[str, str, str], str]) -> Tensor:
    names = [bases.get((layer, side, "weight")) for side in "UV"]
    left, right = (None if name is None else tensors[name] for name in names)
    values = tensors[layer + VALUES].flatten()
    if left is None or right is None:
        raise StateDictError(f"The checkpoint has the singular values of {layer}, and not both bases.", name=layer)
    if not left.flatten(1).shape[1] == len(values) == len(right):
        raise StateDictError(f"The checkpoint's {layer} has {len(values)} singular values, and its bases have not.")
    product = (left.flatten(1).double() * values.double()) @ right.flatten(1).double()
    return product.reshape(len(left), *right.shape[1:]).float()


def _join(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values in one matrix, and what is behind them under its own name."""
    joined = dict(tensors)
    for first in (match for name in tensors if (match := _FIRST.fullmatch(name)) is not None):
        attention, kind = first["attention"], first["kind"]
        parts = [joined.pop(f"{attention}.{part}.{kind}", None) for part in _PARTS]
        if None in parts or f"{attention}.proj.{kind}" not in joined:
            raise StateDictError(f"The checkpoint has not all parts of {attention}.", name=attention)
        whole = torch.cat([part for part in parts if part is not None])
        if _TIMM in attention:
            joined[f"{attention}.qkv.{kind}"] = whole
            continue
        joined[f"{attention}.in_proj_{kind}"] = whole
        joined[f"{attention}.out_proj.{kind}"] = joined.pop(f"{attention}.proj.{kind}")
    return joined
