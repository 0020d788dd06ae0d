"""TensorRT on NVIDIA GPUs: engines from the store or built, run through torch's CUDA memory.

Opening asks for no GPU: a gateway that computes nothing opens its backend too. Compiling does. An engine that cannot be
built or loaded, or that gives other numbers than torch, is run by torch instead: see `fallback`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from plumbline_models.backends.agreement import WrongNumbersError, check_agreement
from plumbline_models.backends.calibration import check_images
from plumbline_models.backends.devices import cuda_devices
from plumbline_models.backends.fallback import BY_TORCH, Fallback
from plumbline_models.backends.tensorrt.compiler import PlanSpec, TensorRtCompiler, TensorRtPrecision, sizes_of
from plumbline_models.backends.tensorrt.fp8 import FP8, fp8_refusal
from plumbline_models.backends.tensorrt.library import (
    PACKAGES,
    PORTABLE_DEVICE,
    Package,
    TensorRtLibrary,
    open_library,
    rtx_refusal,
)
from plumbline_models.backends.tensorrt.stripped import find_references
from plumbline_models.backends.tuning import PrecisionChoice, Tuning
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from plumbline_models.core.graph import Graph


class PlanLoader(Protocol):
    """Makes engines of plans on this process's GPU."""

    def open(self, graph: Graph, content: Any) -> Any:
        """Deserialise a plan.

        Args:
            graph: Whose it is.
            content: Its bytes.

        Raises:
            EngineError: It is damaged, or for another GPU or version.
        """
        ...

    def start(self, spec: PlanSpec, opened: Any) -> Engine:
        """Make what `open` gave ready to run, with its weights where it was built without.

        Args:
            spec: The plan's.
            opened: As `open` gave it.

        Raises:
            EngineError: There is no room for it, or its inputs and outputs are not those of the graph.
        """
        ...


@dataclass(frozen=True, slots=True)
class TensorRtVariant:
    """A backend by its name, as the registry lists it.

    Args:
        packages: Of which the first that is installed is opened.
    """

    name: str
    packages: tuple[Package, ...]

    def open_backend(self, precision: PrecisionChoice, tuning: Tuning) -> "TensorRtBackend":
        """Open it; no GPU is looked for yet.

        Args:
            precision: `auto` is fp16.
            tuning: As for every backend.

        Raises:
            BackendUnavailableError: None of its packages is installed, or the CPU is asked for.
            ConfigError: TensorRT has no such precision here, or fp8 has neither images nor engines to use.
        """
        if tuning.device == "cpu":
            detail = f"The {self.name} backend runs on NVIDIA GPUs, not on the CPU."
            raise BackendUnavailableError(detail, backend=self.name)
        if precision == "fp8":
            check_images(tuning, FP8)
        return TensorRtBackend(self, precision=_resolve(precision), tuning=tuning)

    def open_compiler(self, precision: PrecisionChoice, tuning: Tuning) -> TensorRtCompiler:
        """Open what builds engines; `tensorrt` builds on the GPU that it builds for, `tensorrt_rtx` needs none.

        Args:
            precision: `auto` is fp16.
            tuning: As for every backend.

        Raises:
            BackendUnavailableError: None of its packages is installed, or there is no GPU to build on, or none that
                computes in fp8 where that is asked for.
            ConfigError: As for `open_backend`.
        """
        if precision == "fp8":
            check_images(tuning, FP8)
        library = open_library(*self.packages)
        return _make_compiler(library, name=self.name, precision=_resolve(precision), tuning=tuning)

    def devices(self) -> tuple[str, ...]:
        """The GPUs that this process may use.

        Raises:
            BackendUnavailableError: There are none.
        """
        return _require_gpus(self.name, cuda_devices())


TENSORRT: Final = TensorRtVariant("tensorrt", PACKAGES)
TENSORRT_RTX: Final = TensorRtVariant("tensorrt-rtx", ("tensorrt_rtx",))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One way to build an engine, and what is done where it fails."""

    is_stripped: bool = False
    is_fused: bool = False
    is_quantised: bool = False
    instead: str = BY_TORCH


class TensorRtBackend:
    """Compiles and runs graphs on the GPU; see `TensorRtVariant`.

    Args:
        variant: Names it and the packages of which one builds and deserialises its engines.
        precision: Of graphs whose values it holds.
        tuning: As for every backend.
        find_devices: Lists the GPUs that this process may use.
        loader: Makes engines of plans; None: TensorRT's own, opened with the first graph.
    """

    def __init__(
        self,
        variant: TensorRtVariant,
        *,
        precision: TensorRtPrecision,
        tuning: Tuning,
        find_devices: Callable[[], tuple[str, ...]] = cuda_devices,
        loader: PlanLoader | None = None,
    ) -> None:
        self.name = variant.name
        self._library = open_library(*variant.packages)
        self._precision: TensorRtPrecision = precision
        self._tuning = tuning
        self._find_devices = find_devices
        self._given_loader = loader

    @property
    def precision(self) -> str:
        """`fp16`, `bf16` or `fp32`, or `fp8` where graphs that have such a form run in it."""
        return self._precision

    def compile(self, graph: Graph) -> Engine:
        """Fetch or build the engine and load it; torch's where that fails.

        Raises:
            BackendUnavailableError: There is no GPU, or one that the package or the precision does not run on.
            ConfigError: There are too few images to calibrate on, or neither images nor the engine.
            EngineError: torch cannot run the graph either.
        """
        self._check_gpu()
        fallback = Fallback(self.name, "fp16" if self._precision == "fp8" else self._precision, self._tuning)
        for attempt in self._attempts(graph):
            try:
                return self._load(graph, attempt)
            except (EngineError, WrongNumbersError) as error:
                fallback.report(graph, error, instead=attempt.instead)
        return fallback.run_by_torch(graph)

    def _check_gpu(self) -> None:
        gpu = _require_gpus(self.name, self._find_devices())[0]
        refusal = rtx_refusal(gpu) if self._library.package == "tensorrt_rtx" else None
        if self._precision == "fp8":
            refusal = refusal or fp8_refusal(gpu)
        if refusal is not None:
            raise BackendUnavailableError(refusal, backend=self.name)

    def _attempts(self, graph: Graph) -> Iterator["_Attempt"]:
        """What is tried, the best first."""
        fuses = self._compiler.fuses(graph)
        if self._compiler.quantises(graph):
            yield _Attempt(is_fused=fuses, is_quantised=True, instead="one in fp16 runs instead")
        if self._tuning.strips_weights:
            yield _Attempt(is_stripped=True, is_fused=fuses, instead="one with its weights inside is built instead")
        if fuses:
            yield _Attempt(is_fused=True, instead="one with attention spelt out is built instead")
        yield _Attempt()

    def _load(self, graph: Graph, attempt: "_Attempt") -> Engine:
        compiler, loader = self._compiler, self._loader
        spec = compiler.specify(
            graph, is_stripped=attempt.is_stripped, is_fused=attempt.is_fused, is_quantised=attempt.is_quantised
        )
        plan = compiler.find_or_build(spec, open_plan=loader.open).value
        engine = loader.start(spec, plan.opened)
        references = plan.references
        if spec.parts is not None:
            references = find_references(graph, spec.parts, sizes=sizes_of(spec), store=compiler.store)
        if references is not None:
            check_agreement(engine, graph, references)
        return engine

    @cached_property
    def _compiler(self) -> TensorRtCompiler:
        return _make_compiler(self._library, name=self.name, precision=self._precision, tuning=self._tuning)

    @cached_property
    def _loader(self) -> PlanLoader:
        if self._given_loader is not None:
            return self._given_loader
        # Imported here because it brings torch, and its CUDA context.
        from plumbline_models.backends.tensorrt.loading import TensorRtLoader  # noqa: PLC0415

        return TensorRtLoader(self._library, name=self.name, records=self._tuning.records_launches)


def _require_gpus(name: str, found: tuple[str, ...]) -> tuple[str, ...]:
    if not found:
        raise BackendUnavailableError(f"There is no NVIDIA GPU here for the {name} backend to run on.", backend=name)
    return found


def _resolve(precision: PrecisionChoice) -> TensorRtPrecision:
    if precision == "int8":
        raise ConfigError("TensorRT engines are built in fp32, bf16, fp16 or fp8; set backend to openvino for int8.")
    return "fp16" if precision == "auto" else precision


def _make_compiler(
    library: TensorRtLibrary, *, name: str, precision: TensorRtPrecision, tuning: Tuning
) -> TensorRtCompiler:
    gpus = cuda_devices() if library.times_kernels else (PORTABLE_DEVICE,)
    if not gpus:
        raise BackendUnavailableError(
            "tensorrt builds engines on the GPU that will run them, and there is none here; "
            "tensorrt-rtx builds them anywhere.",
            backend=name,
        )
    if precision == "fp8" and (refusal := fp8_refusal(gpus[0])) is not None:
        raise BackendUnavailableError(refusal, backend=name)
    return TensorRtCompiler(library, name=name, precision=precision, device=gpus[0], tuning=tuning)
