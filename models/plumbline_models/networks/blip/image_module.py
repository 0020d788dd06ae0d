"""BLIP's image tower: pixels to all tokens that leave its last norm.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", ICML 2022, arXiv:2201.12086, section 3.1, after
Dosovitskiy et al., arXiv:2010.11929. Parameters have the published names.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.blip.arch import VISION_EPSILON, BlipArch

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, of pixels in 0..1
_STD: Final = (0.26862954, 0.26130258, 0.27577711)


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return projected


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, VISION_EPSILON)
        self.attn = _Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, VISION_EPSILON)
        self.mlp = _FeedForward(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        fed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return fed


class _Patches(nn.Module):
    def __init__(self, arch: BlipArch) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, arch.image_width, arch.patch_px, stride=arch.patch_px)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.flatten(self.proj(pixels), 2).transpose(1, 2)


class BlipImage(nn.Module):
    """The graph `blip_image`.

    Args:
        arch: Sizes.
    """

    def __init__(self, arch: BlipArch) -> None:
        super().__init__()
        width = arch.image_width
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, arch.num_image_tokens, width))
        self.patch_embed = _Patches(arch)
        self.blocks = nn.ModuleList(_Block(width, arch.num_image_heads) for _ in range(arch.num_image_blocks))
        self.norm = nn.LayerNorm(width, VISION_EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, H, W, 3]` uint8 to `[N, T, W]`, the class token first."""
        mean, std = (pixels.new_tensor(values, dtype=torch.float32) for values in (_MEAN, _STD))
        normal = ((pixels.to(torch.float32) / 255.0 - mean) / std).permute(0, 3, 1, 2)
        patches = self.patch_embed(normal.to(self.cls_token.dtype))
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed
