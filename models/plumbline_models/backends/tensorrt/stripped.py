"""Keeps a graph and its weights apart: the graph is the same for all weights of one architecture, and so is its engine.

What is the same is not promised but read: an engine without weights is found by the content of the graph that it was
built from, with every node, shape and type of it and every number that was left inside.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline_models.backends.agreement import References, Sizes, fixed_sizes, num_when_built
from plumbline_models.backends.kept_references import keep_references
from plumbline_models.backends.store.engine_store import Built, EngineStore
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

if TYPE_CHECKING:
    from plumbline_models.backends.export.export import OnnxGraph

_GRAPH, _WEIGHTS = "graph.onnx", "weights.safetensors"


@dataclass(frozen=True, slots=True)
class StrippedGraph:
    """An entry of the store with a graph and its weights.

    Args:
        key: Of the entry; the weights and the precision are part of it.
    """

    key: EngineKey
    folder: Path

    @property
    def onnx_file(self) -> Path:
        """The graph, its weights being inputs."""
        return self.folder / _GRAPH

    @property
    def weights_file(self) -> Path:
        """The weights as safetensors, by the names of the graph's inputs."""
        return self.folder / _WEIGHTS

    def structure(self) -> str:
        """Hex sha256 of the graph without its weights."""
        return hashlib.sha256(self.onnx_file.read_bytes()).hexdigest()


def keep_stripped(
    graph: Graph, key: EngineKey, *, precision: Precision, store: EngineStore, is_fused: bool = False
) -> StrippedGraph:
    """Find the entry of a graph and its weights, or export the graph and make it.

    Args:
        graph: What is exported.
        key: Of the entry.
        precision: That products are to run in.
        store: Where the entry is.
        is_fused: Whether attention becomes one node each.

    Raises:
        EngineError: The graph does not export, or the store cannot be written.
    """

    def write(folder: Path) -> None:
        from plumbline_models.backends.tensorrt.attention import fuse_attention  # noqa: PLC0415 - onnx_ir, when building

        export_graph(graph, precision).save_stripped(folder / _GRAPH, folder / _WEIGHTS)
        if is_fused:
            fuse_attention(folder / _GRAPH)

    def refuse() -> StrippedGraph:
        raise EngineError(f"The weights of {graph.name} cannot be kept in the engine cache.", graph=graph.name)

    return store.get_or_build(
        key, build=lambda: Built(write, use=refuse), read=lambda folder: StrippedGraph(key, folder)
    ).value


def find_references(graph: Graph, parts: StrippedGraph, *, sizes: Sizes, store: EngineStore) -> References:
    """What engines of those weights must give, made by torch on the CPU once.

    Args:
        graph: What they compute.
        parts: The graph and its weights.
        sizes: Typical ones, of the engine.
        store: Keeps them.
    """
    chosen = fixed_sizes(graph, num_inputs=num_when_built(parts.weights_file.stat().st_size), sizes=sizes)
    return keep_references(graph, chosen, weights=parts.key.digest, store=store, run=lambda inputs: _run(graph, inputs))


def _run(graph: Graph, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    # Imported here because it brings torch's modules and all weights in float32, once in an engine's life.
    import torch  # noqa: PLC0415

    from plumbline_models.backends.torch_backend import TorchBackend  # noqa: PLC0415

    return TorchBackend(torch.device("cpu"), precision="fp32").compile(graph).run(inputs)


def export_graph(graph: Graph, precision: Precision, *, sizes: Sizes | None = None) -> "OnnxGraph":
    """The graph as ONNX, its products in that precision.

    Args:
        graph: What is exported.
        precision: As for `OnnxGraph.lower`.
        sizes: As for `export_onnx`.

    Raises:
        EngineError: It does not export, or a weight leaves fp16's range.
    """
    # Imported here because it brings torch's exporter, which a warm start must not pay for.
    from plumbline_models.backends.export.export import export_onnx  # noqa: PLC0415

    exported = export_onnx(graph, sizes=sizes)
    exported.lower(precision)
    return exported
