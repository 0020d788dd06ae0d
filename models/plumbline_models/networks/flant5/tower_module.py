"""The image tower of CLIP-FlanT5: pixels to the tokens that stand for the image in the encoder's input.

Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", ECCV 2024, arXiv:2404.01291,
section 3; the tower is CLIP's (arXiv:2103.00020), the projector LLaVA-1.5's (arXiv:2310.03744, section 3.2).
Taken are the patch tokens that leave the last but one block, without the class token and without the final norm.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.flant5.arch import TowerArch

_QUICK_GELU_SLOPE = 1.702  # x * sigmoid(1.702 x), as the CLIP towers of OpenAI were trained


class TowerBlock(nn.Module):
    """A pre-norm transformer block; the attention's scale is expected inside the query weights."""

    def __init__(self, arch: TowerArch) -> None:
        super().__init__()
        self.num_heads = arch.num_heads
        self.has_quick_gelu = arch.has_quick_gelu
        self.attention_norm = nn.LayerNorm(arch.width, arch.norm_epsilon)
        self.query_key_value = nn.Linear(arch.width, 3 * arch.width)
        self.out = nn.Linear(arch.width, arch.width)
        self.ffn_norm = nn.LayerNorm(arch.width, arch.norm_epsilon)
        self.up = nn.Linear(arch.width, arch.ffn_width)
        self.down = nn.Linear(arch.ffn_width, arch.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, 1 + P, W]` to the same."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.query_key_value(self.attention_norm(tokens)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        tokens = tokens + self.out(mixed.transpose(1, 2).flatten(2))
        return tokens + self.down(self._activate(self.up(self.ffn_norm(tokens))))

    def _activate(self, values: Tensor) -> Tensor:
        if self.has_quick_gelu:
            return values * torch.sigmoid(_QUICK_GELU_SLOPE * values)
        return functional.gelu(values)


class FlanT5Image(nn.Module):
    """The graph `flant5_image`: uint8 pixels to `[N, P, D]` projected patch tokens."""

    def __init__(self, arch: TowerArch) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, arch.width, arch.patch_px, stride=arch.patch_px, bias=False)
        self.class_token = nn.Parameter(torch.empty(arch.width))
        self.positions = nn.Parameter(torch.empty(1 + arch.num_patches, arch.width))
        self.norm = nn.LayerNorm(arch.width, arch.norm_epsilon)
        self.blocks = nn.ModuleList(TowerBlock(arch) for _ in range(arch.num_blocks))
        self.project_in = nn.Linear(arch.width, arch.projected_width)
        self.project_out = nn.Linear(arch.projected_width, arch.projected_width)
        # Kept out of the state dict: they come from the architecture, and are there even on a meta device.
        self.mean, self.std = arch.mean, arch.std

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, H, W, 3]` uint8 to `[N, P, D]` float."""
        return self.project(self.embed(pixels))

    def embed(self, pixels: Tensor) -> Tensor:
        """Patch tokens as they leave the last block, `[N, P, W]`."""
        mean, std = (pixels.new_tensor(values, dtype=self.positions.dtype) for values in (self.mean, self.std))
        normal = (pixels.to(self.positions.dtype) / 255.0 - mean) / std
        patches = self.patches(normal.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        class_tokens = self.class_token.expand(patches.shape[0], 1, -1)
        tokens = self.norm(torch.cat([class_tokens, patches], dim=1) + self.positions)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, 1:]

    def project(self, tokens: Tensor) -> Tensor:
        """`[N, P, W]` to `[N, P, D]`, through the exact (error function) GELU."""
        return self.project_out(functional.gelu(self.project_in(tokens)))
