"""Loads engines onto the GPU; one from the cache that TensorRT refuses is built anew, once."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from plumbline_models.backends.tensorrt.agreement import check_agreement
from plumbline_models.backends.tensorrt.compiler import Plan, TensorRtCompiler
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import Engine

logger = logging.getLogger(__name__)


class Starter(Protocol):
    """Makes engines of plans on this process's GPU."""

    @property
    def device(self) -> str:
        """The GPU's name and compute capability."""
        ...

    def open(self, graph: Graph, plan: Plan) -> Any:
        """Deserialise a plan.

        Raises:
            EngineError: It is damaged, or for another GPU or version.
        """
        ...

    def start(self, graph: Graph, plan: Plan, opened: Any, *, weights_file: Path | None = None) -> Engine:
        """Make what `open` gave ready to run.

        Args:
            weights_file: The weights of a plan that was built without; safetensors.

        Raises:
            EngineError: There is no room for it, or its inputs and outputs are not those of the graph.
        """
        ...


def load_engine(
    starter: Starter, compiler: TensorRtCompiler, graph: Graph, *, on_fallback: Callable[[EngineError], None]
) -> Engine:
    """Find or build the engine of a graph and make it ready to run.

    Args:
        on_fallback: Told why an engine without weights cannot serve, before one with its weights inside is loaded.

    Raises:
        EngineError: It cannot be built, or not be loaded here.
    """
    if compiler.strips_weights:
        try:
            return _load_stripped(starter, compiler, graph)
        except EngineError as error:
            on_fallback(error)
    plan, opened = _open(starter, compiler, graph, compiler.plan(graph), rebuild=lambda: compiler.plan(graph))
    return starter.start(graph, plan, opened)


def _load_stripped(starter: Starter, compiler: TensorRtCompiler, graph: Graph) -> Engine:
    found = compiler.stripped(graph)
    parts = found.parts
    plan, opened = _open(starter, compiler, graph, found.plan, rebuild=lambda: compiler.stripped(graph).plan)
    engine = starter.start(graph, plan, opened, weights_file=parts.weights_file)
    # Whoever binds weights at run time vouches for them: once for each engine, weights and GPU it is put to the test.
    check_agreement(
        engine,
        graph,
        profile=compiler.profile(graph),
        cache=compiler.cache,
        made_of={"engine": plan.key.digest, "weights": parts.key.digest, "device": starter.device},
    )
    return engine


def _open(
    starter: Starter, compiler: TensorRtCompiler, graph: Graph, plan: Plan, *, rebuild: Callable[[], Plan]
) -> tuple[Plan, Any]:
    try:
        return plan, starter.open(graph, plan)
    except EngineError as error:
        if not plan.was_found:
            raise
        compiler.cache.discard(plan.key, f"TensorRT refuses it: {error.facts.get('reason')}")
        plan = rebuild()
        return plan, starter.open(graph, plan)
