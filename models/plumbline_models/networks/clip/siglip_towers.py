"""SigLIP's two towers: full attention, and an image read by a learned probe in place of a class token.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv:2303.15343, after Zhai et al., "Scaling
Vision Transformers", arXiv:2106.04560, for the attention pool. Parameters have the names of CLIP's towers where they
are the same.
"""

import torch
from torch import Tensor, nn

from plumbline_models.networks.clip.arch import BlockArch, ImageArch, TextArch
from plumbline_models.networks.clip.blocks import Attention, Blocks, FeedForward, LayerNorm


class AttentionPool(nn.Module):
    """What a learned probe reads of all tokens."""

    def __init__(self, arch: BlockArch) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, arch.width))
        self.attn = Attention(arch)
        self.layernorm = LayerNorm(arch.width, arch.norm_epsilon)
        self.mlp = FeedForward(arch)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, P, W]` to `[N, W]`."""
        read = self.attn.read(self.probe.expand(tokens.shape[0], -1, -1), tokens, None)
        pooled: Tensor = read + self.mlp(self.layernorm(read))
        return pooled[:, 0]


class SiglipImageTower(nn.Module):
    """The image tower.

    Args:
        arch: Sizes. Where patches do not fill the image, its last rows and columns are not read.
    """

    def __init__(self, arch: ImageArch) -> None:
        super().__init__()
        width = arch.block.width
        self.conv1 = nn.Conv2d(3, width, arch.patch_px, stride=arch.patch_px)
        self.positional_embedding = nn.Parameter(torch.empty(arch.num_patches, width))
        self.transformer = Blocks(arch.block, arch.num_blocks)
        self.ln_post = LayerNorm(width, arch.block.norm_epsilon)
        self.head = AttentionPool(arch.block)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, 3, H, W]` normalised to `[N, D]`, not of unit norm."""
        tokens = self.conv1(pixels).flatten(2).transpose(1, 2) + self.positional_embedding
        for block in self.transformer.resblocks:
            tokens = block(tokens, None)
        pooled: Tensor = self.head(self.ln_post(tokens))
        return pooled


class SiglipTextTower(nn.Module):
    """The text tower; it reads padding as it was trained to, so that every text has the full length.

    Args:
        arch: Sizes.
    """

    def __init__(self, arch: TextArch) -> None:
        super().__init__()
        width = arch.block.width
        self.token_embedding = nn.Embedding(arch.num_tokens, width)
        self.positional_embedding = nn.Parameter(torch.empty(arch.context_length, width))
        self.transformer = Blocks(arch.block, arch.num_blocks)
        self.ln_final = LayerNorm(width, arch.block.norm_epsilon)
        self.text_projection = nn.Linear(width, arch.embed_dim)

    def forward(self, token_ids: Tensor) -> Tensor:
        """`[N, L]` ids, L the context length, to `[N, D]`, not of unit norm; the last position is read."""
        tokens = self.token_embedding(token_ids) + self.positional_embedding
        for block in self.transformer.early:
            tokens = block(tokens, None)
        read = self.transformer.last.read(tokens[:, -1:], tokens, None)
        projected: Tensor = self.text_projection(self.ln_final(read[:, 0]))
        return projected
