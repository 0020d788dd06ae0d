"""The image half of causal question-answering networks: pixels to the rows that stand in the prompt."""

from typing import Any

import torch
from torch import Tensor, nn

from plumbline_models.graphs.causal_merged_tower import MergedTower
from plumbline_models.graphs.causal_rules import PixelRules
from plumbline_models.graphs.causal_towers import make_tower


class CausalImage(nn.Module):
    """The graph `causal_image`.

    Args:
        network: The transformers library's, without the head.
    """

    def __init__(self, network: Any, rules: PixelRules) -> None:
        super().__init__()
        self.tower = MergedTower(network.visual) if rules.order == "merged" else make_tower(network, rules)
        self._rules = rules

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images of one size.

        Args:
            pixels: `[N, T, H, W, 3]` uint8, or `[N, R, H, C, W, 3]` where groups of patches are merged: R rows and C
                columns of groups of H by W pixels.

        Returns:
            `[N, 1 + deep, P, D]`: the rows in the prompt, and what deeper layers of the language part add to them.
        """
        # Made here, since what a module holds is rounded with its weights.
        mean, std = (torch.tensor(each, device=pixels.device) for each in (self._rules.mean, self._rules.std))
        shades = ((pixels.float() / 255 - mean) / std).to(next(self.tower.parameters()).dtype)
        planes = shades if self._rules.order == "merged" else shades.permute(0, 1, 4, 2, 3)
        return torch.stack(self.tower(planes), dim=1)
