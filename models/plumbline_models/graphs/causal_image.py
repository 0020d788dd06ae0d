"""The image half of causal question-answering networks: pixels to the rows that stand in the prompt."""

from typing import Any

import torch
from torch import Tensor, nn

from plumbline_models.graphs.causal_rules import PixelRules


class CausalImage(nn.Module):
    """The graph `causal_image`.

    Args:
        network: With `get_image_features`, as the transformers library has it.
    """

    def __init__(self, network: Any, rules: PixelRules) -> None:
        super().__init__()
        self.network = network
        self._rules = rules

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images of one size.

        Args:
            pixels: `[N, T, H, W, 3]` uint8.

        Returns:
            `[N, 1 + deep, P, D]`: the rows in the prompt, and what deeper layers of the language part add to them.
        """
        rules = self._rules
        mean, std = (torch.tensor(each, device=pixels.device) for each in (rules.mean, rules.std))
        planes = ((pixels.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)
        num_images = len(planes)
        if rules.order == "merged":
            height, width = (side // rules.patch_px for side in planes.shape[3:])
            grids = torch.tensor([[1, height, width]] * num_images, device=pixels.device)
            found = self.network.get_image_features(self._patches(planes[:, 0]), grids)
        else:
            taken = planes if rules.order == "tiles" else planes[:, 0]
            found = self.network.get_image_features(taken.to(self.network.dtype))
        levels = [found.pooler_output, *(getattr(found, "deepstack_features", None) or ())]
        return torch.stack([torch.stack(list(level)) for level in levels], dim=1)

    def _patches(self, planes: Tensor) -> Tensor:
        """`[N * patches, 3 * frames * patch * patch]`, those that are merged one behind another."""
        rules = self._rules
        sides = (rules.merge, rules.patch_px)
        cut = planes.unflatten(3, (-1, *sides)).unflatten(2, (-1, *sides))
        # Axes: image, channel, row, row in group, row in patch, then the same of columns.
        cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        return cut.expand(*(-1,) * 6, rules.num_frames, -1, -1).flatten(0, 4).flatten(1)
