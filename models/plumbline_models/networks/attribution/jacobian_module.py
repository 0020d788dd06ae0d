"""The graph `clip_text_vectors`: captions as matrices, so that one product with image embeddings attributes every pair.

The attribution of `clip_text_attribution` is linear in the image embedding i: a_j = <V_j, i>. V_j is the derivative of
the unit text embedding by a factor on column j of the end-of-text token's attention, in all traced blocks and heads at
once; it depends on the caption alone. One forward-mode pass gives all V_j of a caption: a tangent for each token.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.attribution.traced_layers import Trace, activation_slope, norm_tangent
from plumbline_models.networks.attribution.traced_tower import TracedTower


class ClipTextVectors(nn.Module):
    """Text embeddings with their derivatives; letters as in `traced_layers`."""

    def __init__(self, tower: TracedTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Make the matrices.

        Args:
            token_ids: `[T, L]` int64, captions behind the prefix, zero-padded on the right.

        Returns:
            Unit text embeddings `[T, D]` and vectors `[T, J, D]`, prefix first; 0 behind the end of the text.
        """
        left, traces = self.tower(token_ids)
        raw = self.tower.project(left)
        length = torch.sqrt((raw * raw).sum(dim=-1, keepdim=True))
        unit = raw / length
        tangents = torch.zeros_like(traces[-1].attention[:, 0, :, None] * left[:, None, :])
        for trace in reversed(traces):
            tangents = _through_attention(trace, tangents)
            tangents = tangents + _through_mlp(trace, tangents)
        tangents = norm_tangent(self.tower.ln_final, left[:, None, :], tangents)
        tangents = torch.matmul(tangents, self.tower.text_projection)
        across = tangents - (tangents * unit[:, None, :]).sum(dim=-1, keepdim=True) * unit[:, None, :]
        num_summed = len(traces) * traces[0].block.attn.num_heads
        return unit, across / (length[:, :, None] * num_summed)


def _through_mlp(trace: Trace, tangents: Tensor) -> Tensor:
    block = trace.block
    normed = norm_tangent(block.ln_2, trace.into_mlp[:, None, :], tangents)
    hidden = functional.linear(normed, block.mlp.c_fc.weight) * activation_slope(block.mlp, trace.hidden)[:, None, :]
    return functional.linear(hidden, block.mlp.c_proj.weight)


def _through_attention(trace: Trace, tangents: Tensor) -> Tensor:
    """Tangents `[T, J, W]` of the end-of-text token, one per column's factor, through the attention and its sum."""
    attention = trace.block.attn
    normed = norm_tangent(trace.block.ln_1, trace.into_attention[:, None, :], tangents)
    together = functional.linear(normed, attention.in_proj_weight)
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, attention.head_width)).transpose(1, 2)
        for part in together.chunk(3, dim=-1)
    )
    own_score = (key * trace.query[:, :, None, :]).sum(dim=-1, keepdim=True)
    scores = torch.matmul(query, trace.keys.transpose(-1, -2)) + own_score * trace.end[:, None, None, :]
    scores = scores * (1 / math.sqrt(attention.head_width))
    weights = trace.attention[:, :, None, :]
    changed = weights * (scores - (weights * scores).sum(dim=-1, keepdim=True))
    mixed = torch.matmul(changed, trace.values) + trace.own(trace.attention)[..., None] * value
    mixed = mixed + trace.attention[..., None] * trace.values
    return tangents + functional.linear(mixed.transpose(1, 2).flatten(2), attention.out_proj.weight)
