"""The layers that T5's encoder and decoder share: RMS norm, gated feed-forward, relative-position bias.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", JMLR 2020,
arXiv:1910.10683, section 2.1, in its version 1.1: gated tanh-GELU, no biases, attention scores not scaled.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.flant5.arch import T5Arch


class RmsNorm(nn.Module):
    """Divides by the root of the mean square, then scales; no mean is taken off, no bias is added."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, tokens: Tensor) -> Tensor:
        """Norm over the last axis; same shape."""
        mean_square = (tokens * tokens).mean(dim=-1, keepdim=True)
        return tokens * torch.rsqrt(mean_square + self.epsilon) * self.weight


class GatedFeedForward(nn.Module):
    """tanh-GELU of one projection times another, projected back, with the norm in front and the sum behind."""

    def __init__(self, arch: T5Arch) -> None:
        super().__init__()
        self.norm = RmsNorm(arch.width, arch.norm_epsilon)
        self.gate_and_value = nn.Linear(arch.width, 2 * arch.ffn_width, bias=False)
        self.down = nn.Linear(arch.ffn_width, arch.width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, S, D]` to the same."""
        gate, value = self.gate_and_value(self.norm(tokens)).chunk(2, dim=-1)
        return tokens + self.down(functional.gelu(gate, approximate="tanh") * value)


class SelfAttention(nn.Module):
    """Self-attention without scaling, with an additive bias, the norm in front and the sum behind."""

    def __init__(self, arch: T5Arch) -> None:
        super().__init__()
        self.num_heads, self.head_width = arch.num_heads, arch.head_width
        self.norm = RmsNorm(arch.width, arch.norm_epsilon)
        self.query_key_value = nn.Linear(arch.width, 3 * arch.inner_width, bias=False)
        self.out = nn.Linear(arch.inner_width, arch.width, bias=False)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """`[N, S, D]` to the same.

        Args:
            tokens: `[N, S, D]`.
            bias: `[N or 1, heads, S, S]`, minus infinity where nothing may be read.
        """
        query, key, value = (
            part.unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)
            for part in self.query_key_value(self.norm(tokens)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return tokens + self.out(mixed.transpose(1, 2).flatten(2))


class RelativeBias(nn.Module):
    """A bias a head that depends on the distance from reader to read, alike for every block of a stack.

    The table runs over distances from -max_distance to max_distance, beyond which the bias no longer changes, so
    it serves every length.
    """

    def __init__(self, arch: T5Arch) -> None:
        super().__init__()
        self.max_distance = arch.max_distance
        self.table = nn.Parameter(torch.empty(arch.num_heads, 2 * arch.max_distance + 1))

    def forward(self, positions: Tensor) -> Tensor:
        """`[L]` positions to `[1, heads, L, L]`, reader first."""
        distance = positions[None, :] - positions[:, None]
        index = distance.clamp(-self.max_distance, self.max_distance) + self.max_distance
        length = positions.shape[0]
        return self.table.index_select(1, index.flatten()).reshape(1, -1, length, length)
