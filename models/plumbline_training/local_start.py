"""Starts an image transformer as the convolution network that it would otherwise have to discover.

Zheng et al., "Structured Initialization for Attention in Vision Transformers", arXiv:2404.01139, for the idea that
attention can begin as the impulse filters of a convolution. Here: patches carry sines and cosines of their place, and
the first layers' heads begin by looking one fixed step up, down, left, right or across. Nothing is frozen.
"""

import math
from typing import Any

import torch
from torch import Tensor

STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
DISTANCES = (1, 1, 2)
"""How far heads look at first, by layer; later layers start at random."""
PERIODS = (5.0, 9.0, 17.0, 40.0)  # in patches
SHARPNESS = 3.0
AMPLITUDE = 0.5
FAINT = 0.02  # spread of what is left to be learned of the places


def place_codes(grid: int) -> Tensor:
    """`[grid, grid, 4 * len(PERIODS)]`: cosines and sines of the row, then of the column."""
    angles = torch.arange(grid)[:, None] * (2 * math.pi / torch.tensor(PERIODS))
    along = torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)
    rows = along[:, None, :].expand(grid, grid, -1)
    columns = along[None, :, :].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1)


def turn(step: tuple[int, int]) -> Tensor:
    """`[K, K]`: takes the code of a place to the code of the place that many patches away."""
    blocks = []
    for distance in step:
        for period in PERIODS:
            angle = 2 * math.pi * distance / period
            blocks.append(torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]))
    turned: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return turned


@torch.no_grad()
def start_local(visual: Any, grid: int) -> None:
    """Give open_clip's image transformer places and first steps; its width must hold a code beside the content."""
    codes = place_codes(grid).flatten(0, 1)
    num_codes = codes.shape[1]
    visual.positional_embedding.normal_(std=FAINT)
    visual.positional_embedding[1:, :num_codes] += AMPLITUDE * codes
    visual.conv1.weight[:num_codes] *= FAINT
    for block, distance in zip(visual.transformer.resblocks, DISTANCES, strict=False):
        _start_block(block, distance, num_codes)


def _start_block(block: Any, distance: int, num_codes: int) -> None:
    attention = block.attn
    width, head_width = attention.embed_dim, attention.head_dim
    query, key, _ = attention.in_proj_weight.split(width)
    scale = math.sqrt(SHARPNESS * math.sqrt(head_width))
    query.mul_(FAINT)
    key.mul_(FAINT)
    for head in range(attention.num_heads):
        row, column = STEPS[head % len(STEPS)]
        rows = slice(head * head_width, head * head_width + num_codes)
        query[rows, :num_codes] += scale * turn((distance * row, distance * column))
        key[rows, :num_codes] += scale * torch.eye(num_codes)
    attention.out_proj.weight[:num_codes] *= FAINT
    block.mlp.c_proj.weight[:num_codes] *= FAINT
