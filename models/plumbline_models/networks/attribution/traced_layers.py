"""Blocks of the text tower that keep what a derivative at the end-of-text token needs.

Letters: T captions, P tokens of a prefix that all captions share, L tokens after it, J = P + L columns, H heads,
C channels per head, W width. E is a caption's end-of-text position. Causality does half the work: what the tower
gives is read at E alone, so derivatives with respect to attention live at E alone, and the shared prefix,
which no caption can change, is computed once when the graph is built.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.clip.blocks import QUICK_GELU_SLOPE, Block, FeedForward, LayerNorm
from plumbline_models.networks.clip.text_tower import pick


class Reversed(nn.Module):
    """A block's weights transposed, to walk back through it.

    Constants of their own: products that read one constant in two ways are no common case, and OpenVINO 2026.4 gets
    them wrong (backends/openvino/conversion.py).
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.c_proj = _transposed(block.mlp.c_proj.weight)
        self.c_fc = _transposed(block.mlp.c_fc.weight)
        self.out_proj = _transposed(block.attn.out_proj.weight)
        self.in_proj = _transposed(block.attn.in_proj_weight)


@dataclass(frozen=True, slots=True)
class Trace:
    """One block at the end-of-text token, for T captions."""

    block: Block
    reversed: Reversed
    into_attention: Tensor
    """`[T, W]`, before the first norm."""
    query: Tensor
    """`[T, H, C]`."""
    keys: Tensor
    """`[T, H, J, C]`."""
    values: Tensor
    """`[T, H, J, C]`."""
    attention: Tensor
    """`[T, H, J]`, sums to 1 over J."""
    into_mlp: Tensor
    """`[T, W]`, before the second norm."""
    hidden: Tensor
    """`[T, F]`, before the activation."""
    end: Tensor
    """`[T, J]`, 1 at the end of each text, else 0."""

    def own(self, columns: Tensor) -> Tensor:
        """Of `[T, H, J]`, the column of the end-of-text token itself, `[T, H, 1]`."""
        return (columns * self.end[:, None, :]).sum(dim=-1, keepdim=True)

    def pick(self, indices: Tensor) -> "Trace":
        """The trace of these captions, `[N]`; a caption may come often."""
        return Trace(
            self.block,
            self.reversed,
            *(
                getattr(self, name).index_select(0, indices)
                for name in ("into_attention", "query", "keys", "values", "attention", "into_mlp", "hidden", "end")
            ),
        )


class TracedBlock(nn.Module):
    """A block that reads a prefix computed beforehand, and can leave a trace.

    Args:
        block: The tower's own.
        prefix: `[P, W]`, what enters the block at the prefix's positions; P may be 0.
    """

    def __init__(self, block: Block, prefix: Tensor) -> None:
        super().__init__()
        self.block = block
        _, keys, values = block.attn.split(block.ln_1(prefix[None]))
        self.register_buffer("prefix_keys", keys)
        self.register_buffer("prefix_values", values)
        self.reversed = Reversed(block)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`[T, L, W]` to the same.

        Args:
            tokens: `[T, L, W]`.
            mask: `[L, J]`, added to the scores.
        """
        attention = self.block.attn
        query, keys, values = self._split(tokens)
        tokens = tokens + attention.join(functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask))
        fed: Tensor = tokens + self.block.mlp(self.block.ln_2(tokens))
        return fed

    def trace(self, tokens: Tensor, end: Tensor, forbidden: Tensor) -> Trace:
        """What the block does at the end-of-text token.

        Args:
            tokens: `[T, L, W]` that enter the block.
            end: `[T, L]`, 1 at the end of each text, else 0.
            forbidden: `[T, J]`, 0 up to the end and very negative behind it.
        """
        block, attention = self.block, self.block.attn
        query, keys, values = self._split(tokens)
        into_attention = pick(end, tokens)[:, 0]
        query = torch.matmul(end[:, None, None, :], query)
        attended = attention.weigh(query, keys, forbidden[:, None, None, :])
        mixed = torch.matmul(attended, values)
        into_mlp = into_attention + attention.join(mixed)[:, 0]
        hidden = block.mlp.c_fc(block.ln_2(into_mlp))
        prefix = torch.zeros_like(forbidden[:, : self.get_buffer("prefix_keys").shape[2]])
        own = torch.cat([prefix, end], dim=1)
        at_end = (into_attention, query[:, :, 0], keys, values, attended[:, :, 0], into_mlp, hidden, own)
        return Trace(block, self.reversed, *at_end)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = self.block.attn.split(self.block.ln_1(tokens))
        shape = (tokens.shape[0], -1, -1, -1)
        keys = torch.cat([self.get_buffer("prefix_keys").expand(shape), keys], dim=2)
        values = torch.cat([self.get_buffer("prefix_values").expand(shape), values], dim=2)
        return query, keys, values


def leave(trace: Trace) -> Tensor:
    """What leaves the block at the end-of-text token, `[T, W]`."""
    mlp = trace.block.mlp
    fed: Tensor = trace.into_mlp + mlp.c_proj(mlp.activate(trace.hidden))
    return fed


def norm_derivative(norm: LayerNorm, at: Tensor, gradient: Tensor) -> Tensor:
    """Gradient through a layer norm, from its output back to its input; `at` and `gradient` end in W.

    Args:
        norm: The layer.
        at: Its input.
        gradient: With respect to its output.
    """
    return _norm_core(norm, at, gradient * norm.weight)


def norm_tangent(norm: LayerNorm, at: Tensor, tangent: Tensor) -> Tensor:
    """Tangent through a layer norm, from its input on to its output; `at` and `tangent` end in W.

    Args:
        norm: The layer.
        at: Its input.
        tangent: Of its input.
    """
    return _norm_core(norm, at, tangent) * norm.weight


def activation_slope(mlp: FeedForward, hidden: Tensor) -> Tensor:
    """Derivative of QuickGELU or of the exact GELU; same shape.

    Args:
        mlp: Says which activation.
        hidden: Before the activation.
    """
    if mlp.has_quick_gelu:
        gate = torch.sigmoid(QUICK_GELU_SLOPE * hidden)
        return gate * (1 + QUICK_GELU_SLOPE * hidden * (1 - gate))
    density = torch.exp(-0.5 * hidden * hidden) * 0.3989422804014327  # 1 / sqrt(2 pi)
    return 0.5 * (1 + torch.erf(hidden * 0.7071067811865476)) + hidden * density


def _norm_core(norm: LayerNorm, at: Tensor, direction: Tensor) -> Tensor:
    """The symmetric part of layer norm's Jacobian, applied to a direction."""
    centred = at - at.mean(dim=-1, keepdim=True)
    scale = torch.rsqrt((centred * centred).mean(dim=-1, keepdim=True) + norm.epsilon)
    unit = centred * scale
    along = (direction * unit).mean(dim=-1, keepdim=True)
    return scale * (direction - direction.mean(dim=-1, keepdim=True) - unit * along)


def _transposed(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().t().contiguous())
