"""The graph `clip_text_attribution`: what each token adds to the cosine of a caption and an image.

Nam et al., "Extract Free Dense Misalignment from CLIP", AAAI 2025, arXiv:2412.18404. For each of the last n blocks
the attribution of token j is the mean over heads of A[E, j] * ds/dA[E, j], where A is the attention after its softmax,
E the end-of-text token, s the cosine, and each entry of A a free variable; the mean over the blocks is what comes out.

The backward pass is written out, on one token per pair: no autograd, no attention maps of other tokens, and captions
that meet several images run forward once.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.attribution.traced_layers import Trace, activation_slope, norm_derivative
from plumbline_models.networks.attribution.traced_tower import TracedTower


class ClipTextAttribution(nn.Module):
    """Forward and backward as one graph; letters as in `traced_layers`, N pairs."""

    def __init__(self, tower: TracedTower) -> None:
        super().__init__()
        self.tower = tower
        # A constant of its own: see `Reversed`.
        self.reversed_projection = nn.Parameter(tower.text_projection.detach().t().contiguous())

    def forward(self, token_ids: Tensor, caption_indices: Tensor, image_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Attribute pairs.

        Args:
            token_ids: `[T, L]` int64, distinct captions behind the prefix, zero-padded on the right.
            caption_indices: `[N]` int64, the caption of each pair.
            image_embeddings: `[N, D]` float32 of unit norm, the image of each pair.

        Returns:
            Each pair's unit text embedding `[N, D]`, and attributions `[N, J]`, prefix first; 0 behind the end of the
            text.
        """
        left, traces = self.tower(token_ids)
        raw = self.tower.project(left)
        length = torch.sqrt((raw * raw).sum(dim=-1, keepdim=True))
        unit, length = (part.index_select(0, caption_indices) for part in (raw / length, length))
        cosines = (unit * image_embeddings).sum(dim=-1)
        gradient = (image_embeddings - cosines[:, None] * unit) / length
        gradient = torch.matmul(gradient, self.reversed_projection)
        gradient = norm_derivative(self.tower.ln_final, left.index_select(0, caption_indices), gradient)
        return unit, self._attribute(gradient, [trace.pick(caption_indices) for trace in traces])

    def _attribute(self, gradient: Tensor, traces: list[Trace]) -> Tensor:
        """Walk back through the traced blocks with the gradient `[N, W]` that leaves the last of them."""
        total: Tensor | None = None
        for index, trace in enumerate(traces):
            gradient = gradient + _through_mlp(trace, gradient)
            of_heads, of_attention = _through_output(trace, gradient)
            attributed = (trace.attention * of_attention).mean(dim=1)
            total = attributed if total is None else total + attributed
            if index < len(traces) - 1:
                gradient = gradient + _through_attention(trace, of_heads, of_attention)
        if total is None:
            raise ValueError("an attribution needs at least one traced block")
        return total / len(traces)


def _through_mlp(trace: Trace, gradient: Tensor) -> Tensor:
    block = trace.block
    hidden = functional.linear(gradient, trace.reversed.c_proj) * activation_slope(block.mlp, trace.hidden)
    return norm_derivative(block.ln_2, trace.into_mlp, functional.linear(hidden, trace.reversed.c_fc))


def _through_output(trace: Trace, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of each head's mixed values, `[N, H, C]`, and of the attention, `[N, H, J]`."""
    attention = trace.block.attn
    of_heads = functional.linear(gradient, trace.reversed.out_proj)
    of_heads = of_heads.unflatten(-1, (attention.num_heads, attention.head_width))
    return of_heads, torch.matmul(trace.values, of_heads[..., None])[..., 0]


def _through_attention(trace: Trace, of_heads: Tensor, of_attention: Tensor) -> Tensor:
    """Gradient of the token that entered the attention, by way of its query, its own key and its own value."""
    block = trace.block
    scale = 1 / math.sqrt(block.attn.head_width)
    expected = (trace.attention * of_attention).sum(dim=-1, keepdim=True)
    of_scores = trace.attention * (of_attention - expected) * scale
    of_query = torch.matmul(of_scores[:, :, None, :], trace.keys)[:, :, 0]
    own_score, own_attention = trace.own(of_scores), trace.own(trace.attention)
    together = torch.cat(
        [part.flatten(1) for part in (of_query, own_score * trace.query, own_attention * of_heads)], dim=-1
    )
    return norm_derivative(block.ln_1, trace.into_attention, functional.linear(together, trace.reversed.in_proj))
