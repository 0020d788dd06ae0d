"""CLIP's vision transformer: pixels to the vector that its class token leaves with.

Radford et al., arXiv:2103.00020, section 2.4, after Dosovitskiy et al., arXiv:2010.11929.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from plumbline_models.networks.clip.arch import ImageArch
from plumbline_models.networks.clip.blocks import Blocks, LayerNorm, unit_norm
from plumbline_models.networks.clip.pixels import MAX_SAMPLE


class ClipImage(nn.Module):
    """An open_clip image tower with its normalisation in front and its norm behind.

    Args:
        tower: Takes `[N, 3, H, W]`, gives `[N, D]` or a tuple that begins with it.
        mean: Of pixels in 0..1, red, green, blue.
        std: The same.
        white: The sample that stands for 1.
    """

    def __init__(
        self, tower: nn.Module, *, mean: Sequence[float], std: Sequence[float], white: float = MAX_SAMPLE
    ) -> None:
        super().__init__()
        self.tower = tower
        # Kept out of the state dict: they come from the configuration, not from the weights.
        self.mean, self.std, self.white = tuple(mean), tuple(std), white

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, H, W, 3]`, uint8 or float32, to `[N, D]` float32 of unit norm."""
        mean, std = (pixels.new_tensor(values, dtype=torch.float32) for values in (self.mean, self.std))
        normal = (pixels.to(torch.float32) / self.white - mean) / std
        dtype = next(self.tower.parameters()).dtype
        made = self.tower(normal.permute(0, 3, 1, 2).to(dtype))
        return unit_norm(made[0] if isinstance(made, tuple | list) else made)


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
        tokens = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        for block in self.transformer.early:
            tokens = block(tokens, None)
        read = self.transformer.last.read(tokens[:, :1], tokens, None)
        return torch.matmul(self.ln_post(read[:, 0]), self.proj)
