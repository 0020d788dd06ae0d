"""TensorRT on NVIDIA GPUs: engines from the cache or built, run through torch's CUDA memory.

Opening asks for no GPU: a gateway that computes nothing opens its backend too. Compiling does. An engine that cannot be
built or loaded is run by torch instead, which is slower and never silent: an error in the log, and a metric.
"""

import logging
from collections.abc import Callable
from functools import partial

from plumbline_models.backends.devices import cuda_devices
from plumbline_models.backends.tensorrt.compiler import TensorRtCompiler
from plumbline_models.backends.tensorrt.library import (
    PACKAGES,
    PORTABLE_DEVICE,
    Package,
    TensorRtLibrary,
    open_library,
    rtx_refusal,
)
from plumbline_models.backends.tuning import Precision, PrecisionChoice, Tuning
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import Backend, Engine

logger = logging.getLogger(__name__)

NAME = "tensorrt"
_TORCH = "torch runs it instead and is slower"
_FULL = "one with its weights inside is built instead"


def open_backend(precision: PrecisionChoice, tuning: Tuning) -> "TensorRtBackend":
    """Open `tensorrt`, or `tensorrt_rtx` where that alone is installed.

    Raises:
        BackendUnavailableError: Neither is installed, or the CPU is asked for.
    """
    return open_for(NAME, PACKAGES, precision, tuning)


def open_compiler(precision: PrecisionChoice, tuning: Tuning) -> TensorRtCompiler:
    """Open the compiler; `tensorrt` builds on the GPU that it builds for.

    Raises:
        BackendUnavailableError: It is not installed, or has no GPU to build on.
    """
    return open_ahead(NAME, PACKAGES, precision, tuning)


def devices() -> tuple[str, ...]:
    """The GPUs that this process may use.

    Raises:
        BackendUnavailableError: There are none.
    """
    return find_gpus(NAME)


def open_for(name: str, packages: tuple[Package, ...], precision: PrecisionChoice, tuning: Tuning) -> "TensorRtBackend":
    """Open the first of these packages as the backend of that name."""
    if tuning.device == "cpu":
        raise BackendUnavailableError(f"The {name} backend runs on NVIDIA GPUs, not on the CPU.", backend=name)
    return TensorRtBackend(open_library(*packages), name=name, precision=_resolve(precision), tuning=tuning)


def open_ahead(
    name: str, packages: tuple[Package, ...], precision: PrecisionChoice, tuning: Tuning
) -> TensorRtCompiler:
    """Open the first of these packages for building alone."""
    library = open_library(*packages)
    return _compiler(library, name=name, precision=_resolve(precision), tuning=tuning)


def find_gpus(name: str) -> tuple[str, ...]:
    """The GPUs that this process may use; raises where there are none."""
    if not (found := cuda_devices()):
        raise BackendUnavailableError(f"There is no NVIDIA GPU here for the {name} backend to run on.", backend=name)
    return found


def _resolve(precision: PrecisionChoice) -> Precision:
    if precision == "int8":
        raise ConfigError("TensorRT engines are built in fp32, bf16 or fp16; set backend to openvino for int8.")
    return "fp16" if precision == "auto" else precision


def _compiler(library: TensorRtLibrary, *, name: str, precision: Precision, tuning: Tuning) -> TensorRtCompiler:
    device = PORTABLE_DEVICE
    if library.times_kernels:
        try:
            device = find_gpus(name)[0]
        except BackendUnavailableError as error:
            raise BackendUnavailableError(
                "tensorrt builds engines on the GPU that will run them, and there is none here; "
                "tensorrt-rtx builds them anywhere.",
                backend=name,
            ) from error
    return TensorRtCompiler(library, name=name, precision=precision, device=device, tuning=tuning)


class TensorRtBackend:
    """Compiles and runs graphs on the GPU; see `open_backend`.

    Args:
        find_devices: Lists the GPUs that this process may use.
    """

    def __init__(
        self,
        library: TensorRtLibrary,
        *,
        name: str,
        precision: Precision,
        tuning: Tuning,
        find_devices: Callable[[], tuple[str, ...]] = cuda_devices,
    ) -> None:
        self.name = name
        self._library = library
        self._precision: Precision = precision
        self._tuning = tuning
        self._find_devices = find_devices
        self._compiler: TensorRtCompiler | None = None

    @property
    def precision(self) -> str:
        """`fp16`, `bf16` or `fp32`."""
        return self._precision

    def compile(self, graph: Graph) -> Engine:
        """Fetch or build the engine and load it; torch's where that fails.

        Raises:
            BackendUnavailableError: There is no GPU, or one that the package does not run on.
            EngineError: torch cannot run the graph either.
        """
        if not (gpus := self._find_devices()):
            raise BackendUnavailableError(
                f"There is no NVIDIA GPU here for the {self.name} backend.", backend=self.name
            )
        if self._library.package == "tensorrt_rtx" and (refusal := rtx_refusal(gpus[0])) is not None:
            raise BackendUnavailableError(refusal, backend=self.name)
        try:
            return self._load(graph)
        except EngineError as error:
            return self._fall_back(graph, error)

    def _load(self, graph: Graph) -> Engine:
        # Imported here because it brings torch, and its CUDA context.
        from plumbline_models.backends.tensorrt.loading import TensorRtStarter  # noqa: PLC0415
        from plumbline_models.backends.tensorrt.starter import load_engine  # noqa: PLC0415

        if self._compiler is None:
            self._compiler = _compiler(self._library, name=self.name, precision=self._precision, tuning=self._tuning)
        starter = TensorRtStarter(self._library, self._compiler, records=self._tuning.records_launches)
        return load_engine(starter, self._compiler, graph, on_fallback=partial(self._report, graph, _FULL))

    def _fall_back(self, graph: Graph, error: EngineError) -> Engine:
        self._report(graph, _TORCH, error)
        precision: Precision = "bf16" if graph.exceeds_fp16 and self._precision == "fp16" else self._precision
        return _open_torch(precision, self._tuning).compile(graph)

    def _report(self, graph: Graph, instead: str, error: EngineError) -> None:
        logger.error(
            "The %s engine of %s failed, %s: %s",
            self.name,
            graph.name,
            instead,
            error.detail,
            extra={"graph": graph.name, "backend": self.name, "reason": error.facts.get("reason")},
        )
        if self._tuning.on_fallback is not None:
            self._tuning.on_fallback(graph.name, self.name)


def _open_torch(precision: Precision, tuning: Tuning) -> Backend:
    from plumbline_models.backends import torch_backend  # noqa: PLC0415 - torch, when it is needed

    return torch_backend.open_backend(precision, tuning)
