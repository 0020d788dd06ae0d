"""F-CLIPScore as the authors' program computes it, one pair a call, written by us with plain torch.

What it does on purpose, because the authors' loop does it: the image is encoded again for every caption; the text
runs at all 77 positions; the attention maps of every block are kept; a gradient graph spans both towers; and each of
the last three blocks costs a call of `autograd.grad`, of whose 77 x 77 result one row is read.
"""

import math

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPLATE = "A photo depicts "
NUM_BLOCKS = 3


class EagerFClipScore:
    """Token attributions and cosine of one image and one caption.

    Args:
        clip: An open_clip network with its own text transformer, float32, in eval mode.
        tokenizer: What `open_clip.get_tokenizer` gives.
    """

    def __init__(self, clip: nn.Module, tokenizer: open_clip.tokenizer.SimpleTokenizer) -> None:
        self.clip = clip
        self.tokenizer = tokenizer

    def __call__(self, pixels: Tensor, caption: str) -> tuple[float, Tensor]:
        """Score a pair.

        Args:
            pixels: `[3, H, W]`, normalised.

        Returns:
            The cosine, and `[E - 1]` attributions of the tokens between start and end of text.
        """
        return self.attribute(F.normalize(self.clip.encode_image(pixels[None]), dim=-1), caption)

    def attribute(self, image: Tensor, caption: str) -> tuple[float, Tensor]:
        """Score a pair whose image is embedded already: `[1, D]` of unit norm."""
        ids = self.tokenizer([TEMPLATE + caption])
        text, maps = self._encode_text(ids)
        cosine = (image * F.normalize(text, dim=-1)).sum()
        end = int(ids[0].argmax())
        relevance = torch.zeros(ids.shape[1], ids.shape[1])
        for attention in maps[-NUM_BLOCKS:]:
            (gradient,) = torch.autograd.grad(cosine, attention, retain_graph=True)
            relevance = relevance + (gradient * attention)[0].mean(dim=0).detach() / NUM_BLOCKS
        return float(cosine.detach()), relevance[end, 1:end]

    def _encode_text(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        clip, maps = self.clip, []
        rows = clip.token_embedding(ids) + clip.positional_embedding
        for block in clip.transformer.resblocks:
            mixed, attention = _attend(block.attn, block.ln_1(rows), clip.attn_mask)
            maps.append(attention)
            rows = rows + mixed
            rows = rows + block.mlp(block.ln_2(rows))
        rows = clip.ln_final(rows)
        return rows[torch.arange(len(ids)), ids.argmax(dim=-1)] @ clip.text_projection, maps


def _attend(attention: nn.MultiheadAttention, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    num_rows, length, width = rows.shape
    heads = attention.num_heads
    together = F.linear(rows, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = together.view(num_rows, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(width // heads) + mask, dim=-1)
    mixed = (weights @ value).transpose(1, 2).reshape(num_rows, length, width)
    return attention.out_proj(mixed), weights
