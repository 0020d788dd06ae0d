"""torch as it is: the reference that the compilers are measured against, and the fallback."""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from plumbline_models.backends.devices import cpu_quota
from plumbline_models.backends.inputs import arrange_inputs
from plumbline_models.backends.tuning import Precision, PrecisionChoice, Tuning
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from plumbline_models.core.graph import Graph

logger = logging.getLogger(__name__)

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NATIVE_BF16 = ("avx512_bf16", "amx_bf16")


def open_backend(precision: PrecisionChoice, tuning: Tuning) -> "TorchBackend":
    """Open torch's CUDA device if there is one and the tuning allows it, else its CPU device.

    Args:
        precision: `auto` is fp16 on a GPU, bf16 on a CPU that computes it natively, else fp32.
        tuning: As for every backend.

    Raises:
        BackendUnavailableError: A GPU is asked for and torch finds none.
        ConfigError: int8 or fp8 is asked for.
    """
    device = choose_device("torch", tuning)
    resolved = resolve_precision("torch", precision, device)
    return TorchBackend(device, precision=resolved, num_threads=tuning.num_threads or cpu_quota())


def devices() -> tuple[str, ...]:
    """The GPUs that torch finds, then the CPU with its vector instructions."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return (*gpus, f"CPU ({torch.backends.cpu.get_cpu_capability()})")


def choose_device(backend: str, tuning: Tuning) -> torch.device:
    """The first CUDA device if there is one and the tuning allows it, else the CPU.

    Args:
        backend: Its name, for errors.
        tuning: As for every backend.

    Raises:
        BackendUnavailableError: A GPU is asked for and torch finds none.
    """
    has_cuda = torch.cuda.is_available()
    if tuning.device == "cuda" and not has_cuda:
        raise BackendUnavailableError("torch finds no CUDA GPU here.", backend=backend, torch=torch.__version__)
    return torch.device("cuda" if has_cuda and tuning.device != "cpu" else "cpu")


def resolve_precision(backend: str, precision: PrecisionChoice, device: torch.device) -> Precision:
    """What `auto` is on a device; any other precision as it is.

    Args:
        backend: Its name, for errors.
        precision: What the configuration asks for.
        device: Where it is computed.

    Raises:
        ConfigError: int8 or fp8 is asked for.
    """
    able = {"int8": "openvino", "fp8": "tensorrt"}.get(precision)
    if precision == "int8" or precision == "fp8":  # noqa: PLR1714 - mypy does not see through a set
        raise ConfigError(
            f"The {backend} backend does not compute in {precision}; set backend to {able}, or precision to auto.",
            backend=backend,
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "fp16"
    read = getattr(torch.cpu, "get_capabilities", None)  # not in the oldest torch that we allow
    capabilities = read() if read is not None else {}
    return "bf16" if any(capabilities.get(name) for name in _NATIVE_BF16) else "fp32"


class TorchBackend:
    """Runs graphs with torch, nothing compiled, nothing cached; see `open_backend`.

    Args:
        num_threads: torch has one number for the whole process; None leaves it.
    """

    name = "torch"

    def __init__(self, device: torch.device, *, precision: Precision, num_threads: int | None = None) -> None:
        self._device = device
        self._precision: Precision = precision
        self._num_threads = num_threads

    @property
    def precision(self) -> str:
        """`fp32`, `bf16` or `fp16`."""
        return self._precision

    def compile(self, graph: Graph) -> "TorchEngine":
        """Build the graph's module and move it to the device; bf16 takes the place of fp16 that would overflow.

        Raises:
            EngineError: The device has no room for it.
        """
        if self._num_threads is not None:
            torch.set_num_threads(self._num_threads)
        precision = precision_of(graph, self._precision)
        module = place(graph.build().eval(), graph.name, device=self._device, precision=precision)
        info = EngineInfo(graph=graph.name, backend=self.name, precision=precision, device=str(self._device), key="")
        return TorchEngine(module, graph=graph, info=info)


def precision_of(graph: Graph, precision: Precision) -> Precision:
    """What a graph is computed in: bf16 in the place of fp16 where values leave fp16's range.

    Args:
        graph: Whose values.
        precision: Of graphs that it holds.
    """
    return "bf16" if graph.exceeds_fp16 and precision == "fp16" else precision


def place(module: nn.Module, graph: str, *, device: torch.device, precision: Precision) -> nn.Module:
    """The module itself, moved to a device in some precision.

    Args:
        module: In eval mode.
        graph: Its name, for errors.
        device: Where it goes.
        precision: Of its weights and of all that it computes.

    Raises:
        EngineError: The device has no room for it.
    """
    if device.type == "cuda" and precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # convolutions would be cut to 10 bits of mantissa by default
    try:
        return module.to(device=device, dtype=DTYPES[precision])
    except RuntimeError as error:
        raise EngineError(f"The graph {graph} does not fit on {device}.", graph=graph, reason=str(error)) from error


class TorchEngine:
    """A torch module as an engine; floating-point inputs and outputs are float32 whatever the precision.

    Args:
        module: In eval mode, on the device and of the precision that `info` names.
    """

    def __init__(self, module: nn.Module, *, graph: Graph, info: EngineInfo) -> None:
        self._module = module
        self._specs = graph.inputs
        self._outputs = graph.outputs
        self._info = info

    @property
    def info(self) -> EngineInfo:
        """What runs, on which device."""
        return self._info

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run one batch; see `Engine.run`."""
        name = self._info.graph
        arrays, _ = arrange_inputs(name, self._specs, inputs)
        try:
            with torch.inference_mode():
                results = self._module(*(self._lend(array) for array in arrays))
        except RuntimeError as error:
            raise EngineError(f"The graph {name} failed on a batch.", graph=name, reason=str(error)) from error
        tensors = (results,) if isinstance(results, Tensor) else tuple(results)
        if len(tensors) != len(self._outputs):
            raise EngineError(
                f"The graph {name} gives {len(tensors)} outputs, not {', '.join(self._outputs)}.", graph=name
            )
        return {output: _take(tensor) for output, tensor in zip(self._outputs, tensors, strict=True)}

    def _lend(self, array: Array) -> Tensor:
        # torch shares memory that it may write to, and warns of any other.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy()).to(self._info.device)
        return tensor.to(DTYPES[self._info.precision]) if tensor.is_floating_point() else tensor


def _take(tensor: Tensor) -> Array:
    plain = tensor.float() if tensor.is_floating_point() else tensor
    return np.array(plain.cpu().numpy(), copy=True)
