"""Launches an engine on a stream: kernel by kernel, or as one CUDA graph where a shape comes again.

`tensorrt_rtx` records graphs itself, shape by shape. For `tensorrt` torch records them; a recorded launch holds the
addresses of all memory that it touches, so it is dropped when memory moves.
"""

import logging
from collections.abc import Hashable
from typing import Any

import torch

from plumbline_models.backends.buckets import Launch, LaunchPlan
from plumbline_models.backends.tensorrt.library import TensorRtLibrary
from plumbline_models.core.errors import EngineError

logger = logging.getLogger(__name__)


def new_context(library: TensorRtLibrary, engine: Any, *, records: bool) -> Any:
    """An execution context whose scratch memory the caller brings, and which records launches if it can itself.

    Args:
        library: Which deserialised the engine.
        engine: The library's `ICudaEngine`.
        records: Whether launches are to be recorded.
    """
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(library.api.ExecutionContextAllocationStrategy.USER_MANAGED)
    if records and library.captures_graphs:
        config.cuda_graph_strategy = library.api.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)


class Launcher:
    """Launches one context.

    Args:
        records: Whether launches are recorded here; not where the library does it.
        weights: What the context is bound to besides inputs and outputs, kept for as long as it may run.
    """

    def __init__(
        self,
        context: Any,
        stream: torch.cuda.Stream,
        *,
        graph: str,
        records: bool,
        weights: tuple[torch.Tensor, ...] = (),
    ) -> None:
        self.context = context
        self._weights = weights
        self._stream = stream
        self._graph = graph
        self._records = records
        self._plan = LaunchPlan()
        self._recorded: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._generation: Hashable = None

    def launch(self, shapes: Hashable, generation: Hashable) -> None:
        """Launch what the context is bound to.

        Args:
            shapes: Of all inputs.
            generation: Of all memory that the context is bound to.

        Raises:
            EngineError: TensorRT refuses to run.
        """
        if not self._records:
            self._run()
            return
        if generation != self._generation:
            self._recorded.clear()
            self._plan.forget_all()
            self._generation = generation
        decision = self._plan.decide(shapes)
        for dropped in self._plan.surplus():
            self._recorded.pop(dropped, None)
        if decision is Launch.RECORD and not self._record(shapes):
            decision = Launch.PLAIN
        if decision is Launch.PLAIN:
            self._run()
            return
        with torch.cuda.stream(self._stream):
            self._recorded[shapes].replay()

    def _record(self, shapes: Hashable) -> bool:
        recording = torch.cuda.CUDAGraph()
        try:
            # Thread-local: what other threads do meanwhile must not spoil it.
            with torch.cuda.graph(recording, stream=self._stream, capture_error_mode="thread_local"):
                self._run()
        except (RuntimeError, EngineError) as error:
            logger.warning("Launches of %s cannot be recorded: %s", self._graph, error, extra={"graph": self._graph})
            self._records = False
            return False
        self._recorded[shapes] = recording
        return True

    def _run(self) -> None:
        if not self.context.execute_async_v3(self._stream.cuda_stream):
            raise EngineError(f"TensorRT could not run a batch of the graph {self._graph}.", graph=self._graph)
