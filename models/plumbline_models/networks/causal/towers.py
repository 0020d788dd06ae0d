"""The image towers of causal networks, from normalised pixels to the tokens that stand in the prompt.

The weights and layers are the transformers library's; the way through them is written out here. Its own way reads
sizes back from tensors, drops empty tiles and cuts by lists of lengths, none of which a compiler can follow.
"""

from typing import Any

import torch
from torch import Tensor, nn

from plumbline_models.networks.causal.merged_tower import MergedTower
from plumbline_models.networks.causal.rules import PixelRules


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
            pixels: `[N, T, H, W, 3]` uint8, or `[N, R, H, C, W, 3]` where groups of patches are merged: R tokens and C
                columns of groups of H by W pixels.

        Returns:
            `[N, 1 + deep, P, D]`: the tokens in the prompt, and what deeper layers of the language part add to them.
        """
        # Made here, since what a module holds is rounded with its weights.
        mean, std = (torch.tensor(each, device=pixels.device) for each in (self._rules.mean, self._rules.std))
        shades = ((pixels.float() / 255 - mean) / std).to(next(self.tower.parameters()).dtype)
        planes = shades if self._rules.order == "merged" else shades.permute(0, 1, 4, 2, 3)
        return torch.stack(self.tower(planes), dim=1)


class SquareTower(nn.Module):
    """LLaVA-1.5: a CLIP up to the configured layer, without its class token, then the projector.

    Args:
        network: Of the library, `LlavaModel`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        tower, depth = network.vision_tower, network.config.vision_feature_layer
        num_layers = len(tower.encoder.layers)
        self.embeddings, self.norm = tower.embeddings, tower.pre_layrnorm
        self.layers = tower.encoder.layers[: depth if depth >= 0 else num_layers + 1 + depth]
        self.projector = network.multi_modal_projector

    def forward(self, planes: Tensor) -> list[Tensor]:
        """`[N, T, 3, H, W]` to one level of `[N, T * P, D]`."""
        tokens = self.norm(self.embeddings(planes.flatten(0, 1)))
        for layer in self.layers:
            tokens = layer(tokens, attention_mask=None)
        return [_of_images(self.projector(tokens[:, 1:]), planes)]


class TileTower(nn.Module):
    """SmolVLM: a SigLIP over every tile, then neighbouring tokens joined.

    Args:
        network: Of the library, `SmolVLMModel` or `Idefics3Model`.
        side_px: Of a tile, all of which is image.
    """

    def __init__(self, network: Any, side_px: int) -> None:
        super().__init__()
        tower = network.vision_model
        self.patches = tower.embeddings.patch_embedding
        self.places = nn.Parameter(_places(tower.embeddings, side_px), requires_grad=False)
        self.layers, self.norm = tower.encoder.layers, tower.post_layernorm
        self.connector = network.connector

    def forward(self, planes: Tensor) -> list[Tensor]:
        """`[N, T, 3, H, W]` to one level of `[N, T * P, D]`."""
        tokens = self.patches(planes.flatten(0, 1)).flatten(2).transpose(1, 2) + self.places
        for layer in self.layers:
            tokens = layer(tokens, attention_mask=None)
        return [_of_images(self.connector(self.norm(tokens)), planes)]


def make_tower(network: Any, rules: PixelRules) -> nn.Module:
    """The tower of families whose images are squares of one size.

    Args:
        network: The library's, without the head.
    """
    return TileTower(network, rules.side_px) if rules.order == "tiles" else SquareTower(network)


def _of_images(tokens: Tensor, planes: Tensor) -> Tensor:
    num_images, num_tiles = planes.shape[:2]
    return tokens.reshape(num_images, num_tiles * tokens.shape[1], tokens.shape[2])


@torch.no_grad()
def _places(embeddings: Any, side_px: int) -> Tensor:
    """What the tower adds to the patches of a whole tile, `[P, D]`: the library finds the places by division."""
    found: list[Tensor] = []
    hook = embeddings.position_embedding.register_forward_hook(lambda _module, _args, places: found.append(places))
    grid = side_px // embeddings.patch_size
    blank = torch.zeros(1, 3, side_px, side_px, dtype=embeddings.patch_embedding.weight.dtype)
    embeddings(blank, torch.ones(1, grid, grid, dtype=torch.bool))
    hook.remove()
    return found[0][0].clone()
