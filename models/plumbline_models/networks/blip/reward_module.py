"""ImageReward's text encoder: a caption that reads an image in every layer, to a reward.

Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation", NeurIPS 2023,
arXiv:2304.05977, section 3; the encoder is BLIP's image-grounded one (arXiv:2201.12086, section 3.1), a BERT
(arXiv:1810.04805) with cross-attention after each self-attention and without token types. The first token is `[CLS]`,
as in the authors' program; BLIP's own matching has another token there.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.blip.arch import TEXT_EPSILON, BlipArch

FORBIDDEN: Final = -1e4  # of padding, as published; finite in fp16, and exp of it is 0


class Attention(nn.Module):
    """Attention with its projection and the norm behind the sum.

    Args:
        width: Of what reads.
        read_width: Of what is read.
        num_heads: Of both.
    """

    def __init__(self, width: int, read_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(read_width, width)
        self.value = nn.Linear(read_width, width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, TEXT_EPSILON)

    def forward(self, tokens: Tensor, read: Tensor, mask: Tensor | None) -> Tensor:
        """What tokens `[N, L, W]` make of those that they read.

        Args:
            tokens: The readers.
            read: `[N, K, R]`.
            mask: `[N, 1, 1, K]`, added to the scores.
        """
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(tokens), self.key(read), self.value(read))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        normed: Tensor = self.norm(tokens + self.out(mixed.transpose(1, 2).flatten(2)))
        return normed


class Layer(nn.Module):
    """Self-attention, cross-attention, feed-forward, each with the norm behind its sum."""

    def __init__(self, arch: BlipArch) -> None:
        super().__init__()
        width = arch.text_width
        self.attention = Attention(width, width, arch.num_text_heads)
        self.crossattention = Attention(width, arch.image_width, arch.num_text_heads)
        self.up = nn.Linear(width, arch.text_ffn_width)
        self.down = nn.Linear(arch.text_ffn_width, width)
        self.norm = nn.LayerNorm(width, TEXT_EPSILON)

    def forward(self, tokens: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """`[N, L, W]` to the same.

        Args:
            tokens: Of the text.
            image: `[N, T, V]`.
            mask: `[N, 1, 1, L]`, added to the scores of the text.
        """
        tokens = self.crossattention(self.attention(tokens, tokens, mask), image, None)
        normed: Tensor = self.norm(tokens + self.down(functional.gelu(self.up(tokens))))
        return normed


class BlipReward(nn.Module):
    """The graph `blip_reward`.

    Args:
        arch: Sizes.
    """

    def __init__(self, arch: BlipArch) -> None:
        super().__init__()
        self.words = nn.Embedding(arch.num_words, arch.text_width)
        self.positions = nn.Embedding(arch.num_positions, arch.text_width)
        self.norm = nn.LayerNorm(arch.text_width, TEXT_EPSILON)
        self.layers = nn.ModuleList(Layer(arch) for _ in range(arch.num_text_blocks))
        self.head = nn.Linear(arch.text_width, 1)

    def forward(self, token_ids: Tensor, image_tokens: Tensor) -> Tensor:
        """Rewards `[N, 1]` float32.

        Args:
            token_ids: `[N, L]` int64, padded on the right with 0.
            image_tokens: `[N, T, V]`.
        """
        tokens = self.norm(self.words(token_ids) + self.positions.weight[: token_ids.shape[1]])
        image = image_tokens.to(tokens.dtype)
        mask = ((token_ids == 0).to(tokens.dtype) * FORBIDDEN)[:, None, None, :]
        for layer in self.layers:
            tokens = layer(tokens, image, mask)
        first = tokens[:, 0].to(torch.float32)
        return functional.linear(first, self.head.weight.to(torch.float32), self.head.bias.to(torch.float32))
