"""The graph `clip_image`: pixels to unit-norm image embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from plumbline_models.graphs.unit_norm import unit_norm


class ClipImage(nn.Module):
    """An open_clip image tower with its normalisation in front and its norm behind.

    Args:
        tower: Takes `[N, 3, H, W]`, gives `[N, D]` or a tuple that begins with it.
        mean: Of pixels in 0..1, red, green, blue.
        std: The same.
    """

    def __init__(self, tower: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.tower = tower
        # Kept out of the state dict: they come from the configuration, not from the weights.
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, H, W, 3]` uint8 to `[N, D]` float32 of unit norm."""
        mean, std = (pixels.new_tensor(values, dtype=torch.float32) for values in (self.mean, self.std))
        normal = (pixels.to(torch.float32) / 255.0 - mean) / std
        dtype = next(self.tower.parameters()).dtype
        made = self.tower(normal.permute(0, 3, 1, 2).to(dtype))
        return unit_norm(made[0] if isinstance(made, tuple | list) else made)
