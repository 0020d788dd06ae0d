"""TensorRT for RTX by its own name, even where `tensorrt` is installed too; see `tensorrt_backend`."""

from plumbline_models.backends.tensorrt.backend import TensorRtBackend, find_gpus, open_ahead, open_for
from plumbline_models.backends.tensorrt.compiler import TensorRtCompiler
from plumbline_models.backends.tuning import PrecisionChoice, Tuning

NAME = "tensorrt-rtx"


def open_backend(precision: PrecisionChoice, tuning: Tuning) -> TensorRtBackend:
    """As `tensorrt_backend.open_backend`."""
    return open_for(NAME, ("tensorrt_rtx",), precision, tuning)


def open_compiler(precision: PrecisionChoice, tuning: Tuning) -> TensorRtCompiler:
    """Open the compiler, which needs no GPU."""
    return open_ahead(NAME, ("tensorrt_rtx",), precision, tuning)


def devices() -> tuple[str, ...]:
    """As `tensorrt_backend.devices`."""
    return find_gpus(NAME)
