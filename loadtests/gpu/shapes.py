"""The graphs that are measured, with random weights of full size, and batches for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loadtests.scorers.product import write_clip
from plumbline_models.backends import ListingBackend
from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.networks.flant5.arch import T5Arch, TowerArch
from plumbline_models.networks.flant5.score_module import FlanT5Score
from plumbline_models.networks.flant5.tower_module import FlanT5Image
from plumbline_models.scorers import build_scorers

XL_TOWER = TowerArch(
    image_px=336,
    patch_px=14,
    width=1024,
    num_blocks=23,
    num_heads=16,
    ffn_width=4096,
    norm_epsilon=1e-5,
    has_quick_gelu=True,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    projected_width=2048,
)
XL_T5 = T5Arch(  # google/flan-t5-xl
    width=2048,
    head_width=64,
    num_heads=32,
    ffn_width=5120,
    num_encoder_blocks=24,
    num_decoder_blocks=24,
    num_buckets=32,
    max_distance=128,
    norm_epsilon=1e-6,
    num_tokens=32100,
    start_id=0,
)
CLIPS: Mapping[str, tuple[str, ...]] = {
    "ViT-B-32-quickgelu": ("clipscore", "fclipscore"),
    "ViT-L-14-336-quickgelu": ("clipscore",),
    "RN50-quickgelu": ("qualiclip",),
}
"""Architectures, and the scorers whose graphs are measured."""


@dataclass(frozen=True)
class Measured:
    """A graph at one size of everything but its batch.

    Args:
        sizes: Of its other dimensions, by name.
        unit: What a row is: images or pairs.
    """

    label: str
    graph: Graph
    batches: tuple[int, ...]
    sizes: Mapping[str, int]
    unit: str

    def draw(self, num_rows: int) -> dict[str, Array]:
        """A batch of random inputs that the graph takes; token ids end in their largest."""
        rng = np.random.default_rng(num_rows)
        return {spec.name: self._draw(spec, num_rows, rng) for spec in self.graph.inputs}

    def _draw(self, spec: TensorSpec, num_rows: int, rng: np.random.Generator) -> Array:
        shape = [self._size(size, num_rows) if isinstance(size, Dim) else size for size in spec.shape]
        if spec.dtype == "uint8":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        if spec.dtype == "float32":
            values = rng.standard_normal(shape).astype(np.float32)
            return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)
        if spec.name == "caption_indices":
            return np.arange(num_rows, dtype=np.int64) % self._size(self.graph.inputs[0].shape[0], num_rows)
        ids = rng.integers(1, 30000, shape)
        ids[:, -1] = 32000 if spec.name.endswith("_ids") and spec.name != "token_ids" else 49407
        return ids

    def _size(self, dim: Any, num_rows: int) -> int:
        return self.sizes.get(dim.name, min(num_rows, dim.high))


def clip_graphs(arch: str, folder: Path) -> list[Measured]:
    """The graphs that the scorers of one CLIP have compiled."""
    checkpoint = {"arch": arch, "checkpoint": str(write_clip(arch, folder))}
    listing = ListingBackend("torch", "fp32")
    for scorer in build_scorers(dict.fromkeys(CLIPS[arch], checkpoint), BuildContext(listing, EncoderRegistry())):
        for encoder in (scorer.image, scorer.text, scorer.pair):
            if encoder is not None:
                encoder.load()
    sizes = {"length": 16, "height": 384, "width": 512}
    batches = (1, 4) if arch.startswith("RN50") else (1, 8, 32, 64)
    return [Measured(f"{arch} {graph.name}", graph, batches, sizes, "rows") for graph in listing.graphs]


def flant5_graphs() -> list[Measured]:
    """CLIP-FlanT5-XL, with random weights: 3.3 billion of them, made in memory."""
    batch, answer = Dim("batch", 1, 8, 32), Dim("answer", 2, 4, 256)
    pixels = TensorSpec("pixels", "uint8", (Dim("batch", 1, 1, 16), XL_TOWER.image_px, XL_TOWER.image_px, 3))
    image = Graph(
        "flant5_image", (pixels,), ("image_encodings",), "random-xl-image", partial(_random, FlanT5Image, XL_TOWER)
    )
    inputs = (
        TensorSpec("image_encodings", "float32", (batch, XL_TOWER.num_patches, XL_T5.width)),
        TensorSpec("head_ids", "int64", (batch, Dim("head", 1, 35, 256))),
        TensorSpec("tail_ids", "int64", (batch, Dim("tail", 8, 32, 1024))),
        TensorSpec("read_ids", "int64", (batch, answer)),
        TensorSpec("answer_ids", "int64", (batch, answer)),
    )
    score = Graph(
        "flant5_score",
        inputs,
        ("answer_log_probs", "rival_log_prob"),
        "random-xl-score",
        partial(_random, FlanT5Score, XL_T5, 465),
        output_shapes=((batch, answer), (batch, 1)),
        exceeds_fp16=True,
    )
    sizes = {"head": 35, "tail": 32, "answer": 2}
    return [
        Measured("CLIP-FlanT5-XL image", image, (1, 8), sizes, "images"),
        Measured("CLIP-FlanT5-XL score", score, (1, 8, 16), sizes, "pairs"),
    ]


def _random(kind: type[torch.nn.Module], *arguments: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    module = kind(*arguments)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=0.02)
    return module.eval()
