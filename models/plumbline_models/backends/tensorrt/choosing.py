"""Chooses the products that are computed in fp8, as many as embeddings bear.

E4M3 has three bits of mantissa: a factor is off by 2.6 % of itself (root mean square), whatever the scale, so scales
need no more care than to hold the largest value that was seen. What that makes of embeddings is measured on the very
graph that is built, evaluated node by node, against torch in float32.

Where all products in fp8 are too many, those that move embeddings most when each is in fp8 alone stay in fp16: an
eighth of them, a quarter, at most half. Where that is too many still, there is no engine in fp8.
"""

import logging
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from plumbline_models.backends.calibration import Batch
from plumbline_models.backends.embedding_loss import Embeddings, Loss, measure_loss
from plumbline_models.backends.tensorrt.evaluating import Evaluation
from plumbline_models.backends.tensorrt.quantising import list_products, quantise
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import Graph

logger = logging.getLogger(__name__)
_LEFT_OUT: Final = (1 / 8, 1 / 4, 1 / 2)
"""Of the products."""
_NUM_RANKED_ON: Final = 4  # images; each costs a run of the tower for each product


def quantise_within_bounds(graph: Graph, onnx_file: Path, *, seen: Sequence[Batch], held_out: Sequence[Batch]) -> None:
    """Rewrite a graph whose products are in fp16 so that those in fp8 are as many as embeddings bear.

    Args:
        graph: What it computes.
        onnx_file: Replaced.
        seen: Images to calibrate on.
        held_out: Others, to measure on.

    Raises:
        EngineError: Half of the products are too many.
        OSError: The disk refuses.
    """
    usual = Evaluation(onnx_file)
    trials = _Trials(onnx_file, seen[:_NUM_RANKED_ON], _embed(usual.run, seen)[:_NUM_RANKED_ON], usual.ranges)
    del usual  # its weights
    others, before = _embed_exactly(graph, seen, held_out)
    products = list_products(onnx_file)
    chosen: Collection[str] = ()
    loss = Loss(0, 0)
    for chosen in trials.choices(products):
        loss = measure_loss(before, trials.embed(chosen, held_out), others)
        logger.info(
            "%s with %d of its %d products in fp8: least cosine with float32 %.4f, order of scores %.4f.",
            *(graph.name, len(chosen), len(products), loss.least_cosine, loss.spearman),
            extra={"graph": graph.name},
        )
        if loss.is_bearable:
            break
    loss.check(graph, "fp8")
    quantise(onnx_file, trials.ranges, chosen)


@dataclass(frozen=True, slots=True)
class _Trials:
    """Tries products in fp8.

    Args:
        onnx_file: The graph in fp16, left as it is.
        images: A few that sensitivity is measured on.
        usual: Their embeddings in fp16.
        ranges: Of the factors, over all images that were seen.
    """

    onnx_file: Path
    images: Sequence[Batch]
    usual: Embeddings
    ranges: Mapping[str, float]

    def embed(self, products: Collection[str], images: Sequence[Batch]) -> Embeddings:
        """Embeddings `[N, D]` with these products in fp8."""
        trial = self.onnx_file.with_name("trial.onnx")  # its weights lie beside it
        shutil.copyfile(self.onnx_file, trial)
        quantise(trial, self.ranges, products)
        return _embed(Evaluation(trial).run, images)

    def choices(self, products: Sequence[str]) -> Iterator[Collection[str]]:
        """All products, then fewer and fewer."""
        yield products
        moves = {product: self._move(product) for product in products}
        ranked = sorted(products, key=lambda product: moves[product])  # NaN anywhere: the engine is refused
        for share in _LEFT_OUT:
            yield ranked[: len(ranked) - math.ceil(share * len(ranked))]

    def _move(self, product: str) -> float:
        """How far embeddings move, in squares of the distance, with one product in fp8."""
        return float(np.square(self.embed([product], self.images) - self.usual).sum(axis=1).mean())


def _embed_exactly(graph: Graph, *sets: Sequence[Batch]) -> list[Embeddings]:
    run = TorchBackend(torch.device("cpu"), precision="fp32").compile(graph).run
    return [_embed(run, images) for images in sets]


def _embed(run: Callable[[Batch], Mapping[str, Array]], images: Sequence[Batch]) -> Embeddings:
    """Embeddings `[N, D]`, which are the first output."""
    return np.concatenate([next(iter(run(image).values())) for image in images]).astype(np.float32)
