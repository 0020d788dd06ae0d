"""Compiling ahead of time: engines are built and kept, and nothing is run, so that no device is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from plumbline_models.backends.fake import FakeBackend, FakeEngine
from plumbline_models.core.graph import Graph

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told the phase, the steps of it that are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class KeptEngine:
    """One engine in a folder, for the report."""

    graph: str
    backend: str
    precision: str
    profile: str
    """Its inputs' sizes, for people."""
    device: str
    """What it is bound to; `any` where it is portable."""
    build_s: float
    """Seconds that building took; 0 where it was found."""
    num_bytes: int
    num_layers: int
    folder: Path
    was_found: bool
    weights_folder: Path | None = None
    """Where its weights lie; None where they are part of it."""
    num_weight_bytes: int = 0
    """Of that folder."""


class AheadCompiler(Protocol):
    """Builds engines at one precision into a folder."""

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    @property
    def precision(self) -> str:
        """As `Backend.precision`."""
        ...

    def precision_of(self, graph: Graph) -> str:
        """What the graph's engine computes in, where not all graphs can do with the compiler's."""
        ...

    def keep(self, graph: Graph, on_progress: Progress | None = None) -> KeptEngine:
        """Find the engine in the folder, or build it there.

        Args:
            graph: What is compiled.
            on_progress: Told how building goes, where the compiler says so.

        Raises:
            EngineError: The graph does not compile, or the folder cannot be written.
        """
        ...


class ListingBackend:
    """Stands in for a backend, to learn which graphs encoders ask for: lists them and answers as the fake one does.

    Args:
        name: Of the backend that it stands in for.
    """

    def __init__(self, name: str, precision: str) -> None:
        self.name = name
        self.precision = precision
        self.graphs: list[Graph] = []
        self._fake = FakeBackend()

    def compile(self, graph: Graph) -> FakeEngine:
        """Write the graph down."""
        if all(graph.fingerprint != known.fingerprint or graph.name != known.name for known in self.graphs):
            self.graphs.append(graph)
        return self._fake.compile(graph)


def num_bytes_in(folder: Path) -> int:
    """Of an engine's files."""
    return sum(path.stat().st_size for path in folder.iterdir())
