# ruff: noqa: PLC0415 - torch is imported when a module is built, so that tests can tell whether anything was
"""Small graphs with everything that the real ones have: uint8 pixels, token ids, attention, free sizes."""

import hashlib
from dataclasses import replace
from typing import Any

from plumbline_models.core.graph import Dim, Graph, TensorSpec

BATCH = Dim("n", low=1, typical=4, high=64)
LENGTH = Dim("l", low=1, typical=12, high=77)
IMAGE_PX, WIDTH, VOCABULARY = 32, 48, 100


def build_image_tower() -> Any:
    import torch
    from torch import nn

    class ImageTower(nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.48, 0.46, 0.41]))
            self.register_buffer("std", torch.tensor([0.27, 0.26, 0.28]))
            self.patches = nn.Conv2d(3, WIDTH, 8, stride=8, bias=False)
            self.class_row = nn.Parameter(torch.randn(WIDTH))
            self.block = nn.TransformerEncoderLayer(WIDTH, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
            self.out = nn.Linear(WIDTH, 32, bias=False)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            dtype = self.out.weight.dtype
            normal = (pixels.to(dtype) / 255.0 - self.mean) / self.std
            patches = self.patches(normal.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
            rows = torch.cat([self.class_row.expand(patches.shape[0], 1, -1), patches], dim=1)
            row = self.out(self.block(rows)[:, 0])
            return row / row.norm(dim=-1, keepdim=True)

    torch.manual_seed(0)
    return ImageTower().eval()


def build_text_tower() -> Any:
    import torch
    from torch import nn

    class TextTower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = nn.Parameter(torch.randn(LENGTH.high, WIDTH) * 0.1)
            self.block = nn.TransformerEncoderLayer(WIDTH, 4, 96, dropout=0.0, batch_first=True, norm_first=True)

        def forward(self, ids: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            length = ids.shape[1]
            order = torch.arange(length)
            rows = self.tokens(ids) + self.positions[:length]
            seen = self.block(rows, src_mask=torch.where(order[None] > order[:, None], float("-inf"), 0.0))
            picked = (order[None] == ends[:, None]).to(seen.dtype)
            row = (picked[:, :, None] * seen).sum(dim=1)
            return row / row.norm(dim=-1, keepdim=True), seen.sum(dim=-1)

    torch.manual_seed(1)
    return TextTower().eval()


IMAGE_GRAPH = Graph(
    name="tiny_image",
    inputs=(TensorSpec("pixels", "uint8", (BATCH, IMAGE_PX, IMAGE_PX, 3)),),
    outputs=("rows",),
    fingerprint=hashlib.sha256(b"tiny_image").hexdigest(),
    build=build_image_tower,
    output_shapes=((BATCH, 32),),
)
TEXT_GRAPH = Graph(
    name="tiny_text",
    inputs=(TensorSpec("ids", "int64", (BATCH, LENGTH)), TensorSpec("ends", "int64", (BATCH,))),
    outputs=("rows", "sums"),
    fingerprint=hashlib.sha256(b"tiny_text").hexdigest(),
    build=build_text_tower,
    output_shapes=((BATCH, WIDTH), (BATCH, LENGTH)),
)


def must_not_build() -> Any:
    raise AssertionError("a cached engine was built again")


def unbuildable(graph: Graph) -> Graph:
    """The same graph, for which only the cache can provide."""
    return replace(graph, build=must_not_build)


def build_lift() -> Any:
    import torch

    torch.manual_seed(2)
    return torch.nn.Linear(4, 6).eval()


LIFT_GRAPH = Graph(
    name="tiny_lift",
    inputs=(TensorSpec("rows", "float32", (BATCH, 4)),),
    outputs=("lifted",),
    fingerprint=hashlib.sha256(b"tiny_lift").hexdigest(),
    build=build_lift,
)
"""The least that can be compiled, for what is about the cache and not about numbers."""


TWICE_PX = 512  # OpenVINO packs weights from 256 channels on


def build_twice() -> Any:
    import torch
    from torch import nn

    class Twice(nn.Module):
        """There and back through the same weights, each way with a constant of its own."""

        def __init__(self) -> None:
            super().__init__()
            weights = torch.randn(TWICE_PX, TWICE_PX) / TWICE_PX**0.5
            self.there = nn.Parameter(weights)
            self.back = nn.Parameter(weights.clone())

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(torch.matmul(rows, self.there), self.back)

    torch.manual_seed(3)
    return Twice().eval()


TWICE_GRAPH = Graph(
    name="tiny_twice",
    inputs=(TensorSpec("rows", "float32", (BATCH, TWICE_PX)),),
    outputs=("returned",),
    fingerprint=hashlib.sha256(b"tiny_twice").hexdigest(),
    build=build_twice,
)


BLEND_PX = 2048


def build_blend() -> Any:
    import torch
    from torch import nn

    class Blend(nn.Module):
        """Tells its inputs apart in every number that it gives."""

        def forward(self, first: torch.Tensor, second: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
            return first + 3.0 * second + turns[:, None].to(first.dtype)

    return Blend().eval()


BLEND_GRAPH = Graph(
    name="tiny_blend",
    inputs=(
        TensorSpec("first", "float32", (BATCH, BLEND_PX)),
        TensorSpec("second", "float32", (BATCH, BLEND_PX)),
        TensorSpec("turns", "int64", (BATCH,)),
    ),
    outputs=("blended",),
    fingerprint=hashlib.sha256(b"tiny_blend").hexdigest(),
    build=build_blend,
    output_shapes=((BATCH, BLEND_PX),),
)
"""Three inputs, for what is about the memory that they lie in."""
