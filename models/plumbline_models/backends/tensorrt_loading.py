"""Loads an engine onto the GPU; one from the cache that TensorRT refuses is built anew, once."""

from typing import Any

from plumbline_models.backends.tensorrt_compiler import Plan, TensorRtCompiler
from plumbline_models.backends.tensorrt_device import gpu_lane
from plumbline_models.backends.tensorrt_engine import TensorRtEngine
from plumbline_models.backends.tensorrt_launches import Launcher, new_context
from plumbline_models.backends.tensorrt_library import TensorRtLibrary
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EngineInfo

_MAX_REASON = 2000


def load_engine(
    library: TensorRtLibrary, compiler: TensorRtCompiler, graph: Graph, *, records: bool = True
) -> TensorRtEngine:
    """Find or build the engine of a graph and make it ready to run.

    Args:
        records: Whether launches are recorded as CUDA graphs.

    Raises:
        EngineError: It cannot be built, or not be loaded here.
    """
    plan = compiler.plan(graph)
    try:
        engine = _deserialise(library, plan, graph)
    except EngineError as error:
        if not plan.was_found:
            raise
        compiler.cache.discard(plan.key, f"TensorRT refuses it: {error.facts.get('reason')}")
        plan = compiler.plan(graph)
        engine = _deserialise(library, plan, graph)
    info = EngineInfo(
        graph=graph.name,
        backend=compiler.name,
        precision=compiler.precision_of(graph),
        device="cuda",
        key=plan.key.digest,
    )
    _check_names(engine, graph)
    lane = gpu_lane()
    context = new_context(library, engine, records=records)
    if context is None:
        raise EngineError(f"{library.package} cannot make a context for {graph.name}.", graph=graph.name)
    records_here = records and not library.captures_graphs
    launcher = Launcher(context, lane.compute, graph=graph.name, records=records_here)
    profile = compiler.profile(graph)
    return TensorRtEngine(graph, profile, launcher=launcher, lane=lane, info=info)


def _deserialise(library: TensorRtLibrary, plan: Plan, graph: Graph) -> Any:
    log = library.new_logger()
    try:
        engine = library.api.Runtime(log).deserialize_cuda_engine(plan.content)
    except (RuntimeError, TypeError) as error:
        # The bindings have no object to give where there is no driver.
        log.errors.append(str(error))
        engine = None
    if engine is None:
        raise EngineError(
            f"{library.package} cannot load the engine of {graph.name} here.",
            graph=graph.name,
            reason="; ".join(log.errors)[:_MAX_REASON],
        )
    return engine


def _check_names(engine: Any, graph: Graph) -> None:
    names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    if names != {*(spec.name for spec in graph.inputs), *graph.outputs}:
        raise EngineError(f"The graph {graph.name} lost an input or an output when it was compiled.", graph=graph.name)
