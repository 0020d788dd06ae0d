"""Word attributions of a CLIP text tower by plain autograd, as a reference.

CLIP4DM, arXiv:2412.18404: the gradient of the cosine with respect to each attention map of the last three
text layers, times the map, averaged over heads and layers; the row of the end-of-text token is kept.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from plumbline_training.captions import Span

NUM_LAYERS = 3


def attributions(clip: Any, rows: Tensor, images: Tensor, *, learns: bool = False) -> tuple[Tensor, Tensor]:
    """Cosines and token attributions of texts, each against its own image.

    Args:
        clip: An open_clip `CLIP`.
        rows: `[N, L]` token ids, zero-padded.
        images: `[N, D]` unit-norm image embeddings.
        learns: Whether a loss of the results is to be differentiated in turn.

    Returns:
        `[N]` cosines and `[N, L]` attributions, zero after each end of text.
    """
    length = rows.shape[1]
    states = clip.token_embedding(rows) + clip.positional_embedding[:length]
    maps: list[Tensor] = []
    for block in clip.transformer.resblocks:
        attended, weights = _attend(block.attn, block.ln_1(states), clip.attn_mask[:length, :length])
        maps.append(weights)
        states = states + attended
        states = states + block.mlp(block.ln_2(states))
    ends = rows.argmax(dim=1)
    pooled = clip.ln_final(states)[torch.arange(len(rows)), ends] @ clip.text_projection
    cosines = (nn.functional.normalize(pooled, dim=-1) * images).sum(dim=-1)
    last = maps[-NUM_LAYERS:]
    gradients = torch.autograd.grad(cosines.sum(), last, create_graph=learns)
    relevance = torch.stack([(a * g).mean(dim=1) for a, g in zip(last, gradients, strict=True)]).mean(dim=0)
    values = relevance[torch.arange(len(rows)), ends]
    return (cosines, values) if learns else (cosines.detach(), values.detach())


def word_values(tokens: Sequence[str], values: Sequence[float], text: str, words: Sequence[Span]) -> list[float]:
    """Mean attribution of each word's tokens.

    Args:
        tokens: The text's tokens as strings, without word ends, in order.
        values: One attribution a token.
        text: What was tokenised, in any case.
        words: The words to value, as `[start, end)` offsets into it.
    """
    lowered, start = text.lower(), 0
    found: list[list[float]] = [[] for _ in words]
    for token, value in zip(tokens, values, strict=True):
        start = lowered.index(token, start)
        for place, (first, last) in enumerate(words):
            if first <= start < last:
                found[place].append(value)
        start += len(token)
    return [sum(one) / max(len(one), 1) for one in found]


def _attend(attention: nn.MultiheadAttention, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    num, length, width = states.shape
    projected = nn.functional.linear(states, attention.in_proj_weight, attention.in_proj_bias)
    split = projected.view(num, length, 3, attention.num_heads, width // attention.num_heads)
    query, key, value = split.permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / (width // attention.num_heads) ** 0.5 + mask
    weights = scores.softmax(dim=-1)
    mixed = (weights @ value).transpose(1, 2).reshape(num, length, width)
    return cast("Tensor", attention.out_proj(mixed)), weights
