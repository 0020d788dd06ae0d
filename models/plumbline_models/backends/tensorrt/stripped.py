"""Keeps a graph and its weights apart: the graph is the same for all weights of one architecture, and so is its engine.

What is the same is not promised but read: an engine without weights is found by the content of the graph that it was
built from, with every node, shape and type of it and every number that was left inside.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plumbline_models.backends.store.engine_store import EngineCache
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

_GRAPH, _WEIGHTS = "graph.onnx", "weights.safetensors"


@dataclass(frozen=True, slots=True)
class StrippedGraph:
    """An entry of the cache with a graph and its weights.

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


def keep_stripped(graph: Graph, key: EngineKey, *, precision: Precision, cache: EngineCache) -> StrippedGraph:
    """Find the entry of a graph and its weights, or export the graph and make it.

    Args:
        precision: That products are to run in.

    Raises:
        EngineError: The graph does not export, or the cache cannot be written.
    """
    folder = cache.load(key)
    if folder is None:
        with cache.building(key):
            folder = cache.load(key) or cache.store(key, partial(_write, graph, precision))
    if folder is None:
        raise EngineError(f"The weights of {graph.name} cannot be kept in the engine cache.", graph=graph.name)
    return StrippedGraph(key, folder)


def _write(graph: Graph, precision: Precision, folder: Path) -> None:
    # Imported here because it brings torch's exporter, which a warm start must not pay for.
    from plumbline_models.backends.export.export import export_onnx  # noqa: PLC0415

    exported = export_onnx(graph)
    exported.lower(precision)
    exported.save_stripped(folder / _GRAPH, folder / _WEIGHTS)
