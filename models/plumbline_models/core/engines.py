"""The seam below encoders: a backend compiles a graph to an engine, and an engine runs batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import Graph


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is, for `GET /v1/models`, the metrics and the logs."""

    graph: str
    backend: str
    precision: str
    device: str
    key: str
    """The engine cache's key, or an empty string where nothing was compiled."""
    num_streams: int = 1
    """Batches that it computes at a time, each for a caller in a thread of its own."""


@runtime_checkable
class Engine(Protocol):
    """A compiled graph; as many threads may call `run` at a time as it has streams."""

    @property
    def info(self) -> EngineInfo:
        """What was compiled, by what, for which device."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run one batch.

        Args:
            inputs: One array for each graph input, batch first, same N.

        Returns:
            One array for each graph output, batch first, owned by the caller.

        Raises:
            EngineError: The backend refused the batch.
        """
        ...


class Backend(Protocol):
    """Compiles graphs into engines, for one device at one precision; making one loads nothing."""

    @property
    def name(self) -> str:
        """As in the configuration: `torch`, `torch-compile`, `openvino`, `tensorrt`, or `fake`."""
        ...

    @property
    def precision(self) -> str:
        """As resolved for this device: `fp32`, `bf16`, `fp16`; `int8`, `fp8` where graphs that can run in it."""
        ...

    def compile(self, graph: Graph) -> Engine:
        """Fetch the engine from the cache, or build and cache it.

        Raises:
            EngineError: The graph does not compile here.
        """
        ...
