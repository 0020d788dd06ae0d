"""Exported graphs that come with embedded weights: read in milliseconds, without torch, and bound to those weights.

    <checkpoint>/graphs/<graph>/manifest.json           what it was exported from, sha256 of the rest
                                graph.onnx              the graph, its weights being inputs
                                bindings.json           of each input, which part of which tensor it is
                                rest.safetensors        numbers that are in no tensor, such as pixels' means
                                references.safetensors  what torch gives for the fixed inputs

A form is used where its key is that of the graph: of the same weights, architecture and settings, made by the same
sources. Any other is passed over, and the graph is exported anew. `python -m plumbline_training.export_embedded` makes
all of them, and a test tells when that is due.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.numpy import load_file

from plumbline_models.backends.agreement import References
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.store.manifest import BrokenEntryError, verify
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import CheckpointError
from plumbline_models.core.graph import Graph

logger = logging.getLogger(__name__)
GRAPH: Final = "graph.onnx"
BINDINGS: Final = "bindings.json"
REST: Final = "rest.safetensors"
_RECIPE: Final = Recipe(backend="onnx", version="any", precision="fp32", device="any")


@dataclass(frozen=True, slots=True)
class Binding:
    """Which part of a tensor an input of the graph is.

    Args:
        tensor: Its name, as `ShippedForm.read_weights` gives it.
        offset: Numbers of it that lie before.
        shape: Of the part, as it lies in the tensor.
        axes: In which order the input has the axes of that shape.
    """

    tensor: str
    offset: int
    shape: Sequence[int]
    axes: Sequence[int]

    def take(self, weights: Mapping[str, Array]) -> Array:
        """The input.

        Args:
            weights: By name.
        """
        num_values = 1
        for size in self.shape:
            num_values *= size
        part = weights[self.tensor].reshape(-1)[self.offset : self.offset + num_values]
        return part.reshape(self.shape).transpose(self.axes)


@dataclass(frozen=True, slots=True)
class ShippedGraph:
    """A graph that need not be exported.

    Args:
        onnx_file: The graph, its weights being inputs.
        weights: By the name of the input.
        references: What torch gives for the fixed inputs.
    """

    key: EngineKey
    onnx_file: Path
    weights: Mapping[str, Array]
    references: References


class NotShippedError(Exception):
    """No exported form of a graph came with its weights, or none of this very graph; never leaves the backends."""


def require_shipped(graph: Graph) -> ShippedGraph:
    """The exported form that came with the weights.

    Raises:
        NotShippedError: There is none of this very graph.
    """
    shipped = open_shipped(graph)
    if shipped is None:
        raise NotShippedError(graph.name)
    return shipped


def shipped_key(graph: Graph) -> EngineKey:
    """What an exported form is of: weights, architecture, settings and sources."""
    return engine_key(graph, _RECIPE)


def open_shipped(graph: Graph) -> ShippedGraph | None:
    """The exported form that came with the weights, or None where there is none of this very graph."""
    if graph.shipped is None or not graph.shipped.folder.is_dir():
        return None
    folder, key = graph.shipped.folder, shipped_key(graph)
    try:
        verify(folder, key)
        rest, bindings = load_file(folder / REST), _read_bindings(folder)
        weights = graph.shipped.read_weights()
        bound = {name: binding.take(weights) for name, binding in bindings.items()}
        return ShippedGraph(key, folder / GRAPH, {**rest, **bound}, References.read(folder))
    except (BrokenEntryError, CheckpointError, OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        logger.info(
            "The exported form of %s that came with its weights is passed over, and torch exports it: %s.",
            graph.name,
            error,
            extra={"graph": graph.name, "folder": str(folder)},
        )
        return None


def write_bindings(bindings: Mapping[str, Binding], folder: Path) -> None:
    """Write them where `open_shipped` finds them.

    Args:
        bindings: By the name of the input.
        folder: Of the form.
    """
    plain = {name: asdict(binding) for name, binding in sorted(bindings.items())}
    lines = [f"{json.dumps(name)}: {json.dumps(binding)}" for name, binding in plain.items()]
    (folder / BINDINGS).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _read_bindings(folder: Path) -> dict[str, Binding]:
    plain = json.loads((folder / BINDINGS).read_text(encoding="utf-8"))
    return {name: Binding(**binding) for name, binding in plain.items()}
