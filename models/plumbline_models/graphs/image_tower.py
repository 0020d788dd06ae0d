"""CLIP's vision transformer: pixels to the row that its class token leaves with.

Radford et al., arXiv:2103.00020, section 2.4, after Dosovitskiy et al., arXiv:2010.11929.
"""

import torch
from torch import Tensor, nn

from plumbline_models.graphs.blocks import Blocks, LayerNorm
from plumbline_models.graphs.tower_arch import ImageArch


class ImageTower(nn.Module):
    """The tower; its state dict has open_clip's names.

    Args:
        arch: Sizes.
    """

    def __init__(self, arch: ImageArch) -> None:
        super().__init__()
        width = arch.block.width
        self.conv1 = nn.Conv2d(3, width, arch.patch_px, stride=arch.patch_px, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + arch.num_patches, width))
        self.ln_pre = LayerNorm(width, arch.block.norm_epsilon)
        self.transformer = Blocks(arch.block, arch.num_blocks)
        self.ln_post = LayerNorm(width, arch.block.norm_epsilon)
        self.proj = nn.Parameter(torch.empty(width, arch.embed_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, 3, H, W]` normalised to `[N, D]`, not of unit norm."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        rows = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        for block in self.transformer.early:
            rows = block(rows, None)
        read = self.transformer.last.read(rows[:, :1], rows, None)
        return torch.matmul(self.ln_post(read[:, 0]), self.proj)
