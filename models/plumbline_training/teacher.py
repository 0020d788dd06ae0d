"""A small convolution network that reads patches, to teach an image transformer what to look for.

Convolutions find shapes within minutes where a transformer of this size needs hours, since they need not learn that a
shape is the same wherever it stands. The transformer is then shown what each of their layers sees: Romero et al.,
"FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550. The teacher is thrown away afterwards.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plumbline_training.labels import NUM_LOCAL, SECTIONS

CHANNELS = (
    (3, 32, 2),
    (32, 32, 1),
    (32, 64, 2),
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 128, 1),
    (128, 128, 1),
)
"""Channels in and out and stride, layer by layer; the strides make a patch of 8 px one place."""
HINTS = (3, 5, 6, 7)
"""Layers whose features are hints, one for each of the transformer's first blocks."""
FINE = 3  # the layer at half a patch: its four places become one
HINT_WIDTHS = (4 * 64, 128, 128, 128)


class Teacher(nn.Module):
    """Reads `[N, 3, S, S]` pixels patch by patch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(*channels) for channels in CHANNELS)
        self.reading = nn.Linear(CHANNELS[-1][1], sum(SECTIONS[:NUM_LOCAL]))

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`[N, patches, labels]` logits, and the hints: `[N, patches, width]` each, of mean 0 and variance 1."""
        hints = []
        states = pixels
        for place, layer in enumerate(self.layers):
            states = layer(states)
            if place in HINTS:
                folded = F.pixel_unshuffle(states, 2) if place == FINE else states
                hints.append(_standardised(folded.flatten(2).transpose(1, 2)))
        return self.reading(states.flatten(2).transpose(1, 2)), hints


def hint_loss(seen: list[Tensor], hints: list[Tensor]) -> Tensor:
    """Mean squared distance between what the transformer sees and the hints, averaged over layers."""
    return torch.stack([F.mse_loss(one, hint) for one, hint in zip(seen, hints, strict=True)]).mean()


def _layer(num_in: int, num_out: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(num_out), nn.ReLU())


def _standardised(features: Tensor) -> Tensor:
    mean = features.mean(dim=(0, 1), keepdim=True)
    spread = features.std(dim=(0, 1), keepdim=True)
    return (features - mean) / (spread + 1e-3)
