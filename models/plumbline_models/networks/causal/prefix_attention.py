"""Causal attention of many tails to one prefix whose keys and values are held once.

A softmax over prefix and tail together is the sum of two parts with one maximum and one denominator, so the prefix is
multiplied with all tails' queries in one product and never copied for each of them. Exact, as the order of a sum is.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class SharedPrefix:
    """Keys and values of a prefix by layer, each `[1, heads, S, head width]`; empty while it is first read."""

    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def cut(self, length: int) -> "SharedPrefix":
        """The same without its end; nothing is copied."""
        return SharedPrefix(
            {layer: key[:, :, :length] for layer, key in self.keys.items()},
            {layer: value[:, :, :length] for layer, value in self.values.items()},
        )

    @classmethod
    def unstacked(cls, stacked: Tensor) -> "SharedPrefix":
        """From what `stacked` gave."""
        parts = stacked.permute(1, 2, 0, 3)[:, None].unbind(0)
        return cls(dict(enumerate(parts[0::2])), dict(enumerate(parts[1::2])))

    def stacked(self) -> Tensor:
        """`[S, 2 * layers, heads, head width]`: keys, then values, of each layer."""
        parts = [part for layer in sorted(self.keys) for part in (self.keys[layer], self.values[layer])]
        return torch.cat(parts).permute(2, 0, 1, 3).contiguous()

    @property
    def num_bytes(self) -> int:
        """Memory that the keys and values take."""
        tensors = (*self.keys.values(), *self.values.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float,
    prefix: SharedPrefix,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as networks of the transformers library call it.

    Args:
        module: The attention layer; its `layer_idx` says which.
        query: `[N, heads, T, head width]`, turned by position already.
        key: `[N, key heads, T, head width]`, and `value` alike.
        attention_mask: None; causal it is in any case, and padding stands on the right.
        prefix: Filled by the call if it has nothing of this layer yet, else attended to by every tail.

    Returns:
        `[N, T, heads, head width]`, and nothing.
    """
    del attention_mask
    layer = int(module.layer_idx)
    if layer not in prefix.keys:
        prefix.keys[layer], prefix.values[layer] = key, value
        # Spelt out, as the ONNX exporter knows no heads in groups.
        num_shared = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(num_shared, dim=1) for part in (key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
        return mixed.transpose(1, 2).contiguous(), None
    return _attend_both(query * scaling, key, value, (prefix.keys[layer], prefix.values[layer])), None


def _attend_both(query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor]) -> Tensor:
    num_tails, num_heads, length, width = query.shape
    num_groups = key.shape[1]
    shape = (num_tails, num_groups, -1, length, width)
    grouped = query.reshape(shape)
    # [groups, N * heads of a group * T, width]: all tails' queries against one copy of the prefix
    folded = grouped.transpose(0, 1).reshape(num_groups, -1, width)
    far = (folded @ prefix[0][0].transpose(1, 2)).float()
    near = (grouped.flatten(2, 3) @ key.transpose(2, 3)).float()
    near = near.reshape(num_tails, num_groups, -1, length, length)
    steps = torch.arange(length, device=query.device)
    ahead = steps > steps[:, None]
    near = near.masked_fill(ahead, -torch.inf).transpose(0, 1).reshape(num_groups, -1, length)
    top = torch.maximum(far.amax(-1, keepdim=True), near.amax(-1, keepdim=True))
    far, near = (far - top).exp_(), (near - top).exp_()
    total = far.sum(-1, keepdim=True) + near.sum(-1, keepdim=True)
    unfolded = (near / total).to(value.dtype).reshape(num_groups, num_tails, -1, length).transpose(0, 1)
    mixed = (far / total).to(value.dtype) @ prefix[1][0]
    mixed = mixed.reshape(num_groups, num_tails, -1, length, width).transpose(0, 1)
    mixed = mixed + (unfolded @ value).reshape(shape)
    return mixed.reshape(num_tails, num_heads, length, width).transpose(1, 2).contiguous()


def pin_rotations(network: nn.Module) -> None:
    """Take the frequencies of rotary positions out of what a change of precision rounds: positions would move."""
    for module in network.modules():
        for name in ("inv_freq", "original_inv_freq"):
            if name in module._buffers:  # noqa: SLF001 - there is no other way to make a buffer an attribute
                setattr(module, name, _unregister(module, name))


def _unregister(module: nn.Module, name: str) -> Tensor:
    tensor = getattr(module, name)
    delattr(module, name)
    return torch.as_tensor(tensor).detach()
