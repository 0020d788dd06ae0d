"""Builds engines with TensorRT, from the ONNX file of a graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline_models.backends.ahead import Progress
from plumbline_models.backends.tensorrt_library import TensorRtLibrary
from plumbline_models.backends.tensorrt_network import find_layer, parse_network
from plumbline_models.backends.tensorrt_profiles import InputProfile, add_profile
from plumbline_models.backends.tensorrt_timings import read_timings, write_timings
from plumbline_models.core.errors import EngineError

_MAX_REASON = 2000


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What to build.

    Args:
        graph: Its name, for errors.
        onnx_file: Weights beside it, types as they are to be computed.
        profile: Of every input.
        timing_file: Kernel timings of earlier builds, read and written; None: none are kept.
    """

    graph: str
    onnx_file: Path
    profile: Sequence[InputProfile]
    timing_file: Path | None = None


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A serialised engine."""

    plan: Any
    """A buffer that the library owns; hundreds of megabytes are not copied."""
    num_layers: int
    """Of the network, before TensorRT fuses them."""


def build_plan(library: TensorRtLibrary, order: BuildOrder, *, on_progress: Progress | None = None) -> BuiltPlan:
    """Build an engine; takes seconds to minutes, and a GPU where the library times kernels.

    Raises:
        EngineError: TensorRT refuses the graph; fact `node` names the place where it is known.
    """
    log = library.new_logger()
    builder = library.api.Builder(log)
    network, parser = parse_network(library, builder, order.onnx_file, graph=order.graph)
    config = _configure(library, builder, order, on_progress)
    plan = builder.build_serialized_network(network, config)
    del parser  # held the weights until here
    if plan is None:
        raise _failure(library, order.graph, network, log.errors)
    if library.times_kernels and order.timing_file is not None:
        write_timings(config, order.timing_file)
    return BuiltPlan(plan, network.num_layers)


def _configure(library: TensorRtLibrary, builder: Any, order: BuildOrder, on_progress: Progress | None) -> Any:
    config = builder.create_builder_config()
    # What is computed in float32 at all is so for its accuracy; TF32 would cut its factors to 10 bits of mantissa.
    config.clear_flag(library.api.BuilderFlag.TF32)
    add_profile(order.profile, builder, config)
    if on_progress is not None:
        config.progress_monitor = _make_monitor(library.api, on_progress)
    if library.times_kernels and order.timing_file is not None:
        read_timings(config, order.timing_file)
    return config


def _failure(library: TensorRtLibrary, graph: str, network: Any, errors: Sequence[str]) -> EngineError:
    reason = "; ".join(errors)[:_MAX_REASON]
    node = find_layer(network, reason)
    where = f" at node {node}" if node else ""
    return EngineError(
        f"{library.package} cannot build the graph {graph}{where}.", graph=graph, node=node, reason=reason
    )


def _make_monitor(api: Any, on_progress: Progress) -> Any:
    """Defined here because its base class is known only once the package is imported."""

    class _Monitor(api.IProgressMonitor):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)
            self._num_steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._num_steps[phase_name] = num_steps
            on_progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(phase_name, step + 1, self._num_steps.get(phase_name, step + 1))
            return True

        def phase_finish(self, phase_name: str) -> None:
            num_steps = self._num_steps.pop(phase_name, 1)
            on_progress(phase_name, num_steps, num_steps)

    return _Monitor()
