"""Builds engines with TensorRT, from the ONNX file of a graph."""

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plumbline_models.backends.ahead import Progress
from plumbline_models.backends.tensorrt.library import TensorRtLibrary
from plumbline_models.backends.tensorrt.profiles import InputProfile, add_profile
from plumbline_models.core.errors import EngineError

# Keeps how long kernels took, so that the next build on this kind of GPU need not time them again.
#
# For `tensorrt` alone: `tensorrt_rtx` times nothing, and asking it for a timing cache makes it look for a GPU.

logger = logging.getLogger(__name__)


def read_timings(config: Any, file: Path) -> None:
    """Give a builder's configuration the timings of earlier builds; none where there are none, or not of use.

    Args:
        config: The library's `IBuilderConfig`.
        file: That `write_timings` wrote.
    """
    try:
        kept = file.read_bytes()
    except OSError:
        kept = b""
    if not config.set_timing_cache(config.create_timing_cache(kept), ignore_mismatch=False):
        logger.info("Kernel timings of another GPU or version are left aside.", extra={"file": str(file)})
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def write_timings(config: Any, file: Path) -> None:
    """Keep a configuration's timings, whole or not at all; what cannot be written is only slower next time.

    Args:
        config: The library's `IBuilderConfig`, after a build.
        file: Replaced.
    """
    content = bytes(config.get_timing_cache().serialize())
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            draft.write(content)
        os.replace(draft.name, file)  # noqa: PTH105 - the draft has a name, not a path
    except OSError as error:
        logger.warning("Kernel timings cannot be kept: %s.", error.strerror or error, extra={"file": str(file)})


_MAX_REASON = 2000


def parse_network(library: TensorRtLibrary, builder: Any, onnx_file: Path, *, graph: str) -> tuple[Any, Any]:
    """The network of a file, weights beside it included.

    Args:
        builder: The library's `Builder`, which must outlive the network.
        graph: Its name, for errors.

    Returns:
        Network and parser; the parser holds the weights and must live until the network is built.

    Raises:
        EngineError: TensorRT refuses a node; facts `node` and `operator` name it.
    """
    api = library.api
    # Before version 11 types of a network are hints unless it is asked for; from 11 on the flag changes nothing.
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(onnx_file)):
        raise _refusal(parser, graph, library)
    return network, parser


def _refusal(parser: Any, graph: str, library: TensorRtLibrary) -> EngineError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    first = errors[0] if errors else None
    # Some errors are about a whole file and name no node.
    node = (first.node_name() or None) if first is not None else None
    operator = (first.node_operator() or None) if first is not None else None
    where = f" at node {node} ({operator})" if node else ""
    return EngineError(
        f"{library.package} refuses the graph {graph}{where}.",
        graph=graph,
        node=node,
        operator=operator,
        reason="; ".join(error.desc() for error in errors)[:_MAX_REASON],
    )


def find_layer(network: Any, message: str) -> str | None:
    """The layer that a message of the builder is about: of those whose name it holds, the one named longest.

    Args:
        network: The library's `INetworkDefinition`.
        message: Of its log.
    """
    names = (network.get_layer(index).name for index in range(network.num_layers))
    return max((name for name in names if name and name in message), key=len, default=None)


FP8_TARGETS: Final = ("SM89", "SM120", "SM121")
"""GPUs of `tensorrt_rtx` that multiply in fp8; for others it refuses a graph that does."""


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What to build.

    Args:
        graph: Its name, for errors.
        onnx_file: Weights beside it, types as they are to be computed.
        profile: Of every input.
        timing_file: Kernel timings of earlier builds, read and written; None: none are kept.
        targets: GPUs that it has to run on, by the names that `tensorrt_rtx` has for them; none: its usual ones.
    """

    graph: str
    onnx_file: Path
    profile: Sequence[InputProfile]
    timing_file: Path | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A serialised engine."""

    plan: Any
    """A buffer that the library owns; hundreds of megabytes are not copied."""
    num_layers: int
    """Of the network, before TensorRT fuses them."""


def build_plan(library: TensorRtLibrary, order: BuildOrder, *, on_progress: Progress | None = None) -> BuiltPlan:
    """Build an engine; takes seconds to minutes, and a GPU where the library times kernels.

    Args:
        library: Which builds.
        order: What to build.
        on_progress: Told how it goes.

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
    if order.targets and not library.times_kernels:
        _target(config, [getattr(library.api.ComputeCapability, name) for name in order.targets])
    if on_progress is not None:
        config.progress_monitor = _make_monitor(library.api, on_progress)
    if library.times_kernels and order.timing_file is not None:
        read_timings(config, order.timing_file)
    return config


def _target(config: Any, capabilities: Sequence[Any]) -> None:
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(capability, index)


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
