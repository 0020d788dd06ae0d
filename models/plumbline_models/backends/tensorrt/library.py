"""Opens TensorRT: `tensorrt` for data-centre GPUs, `tensorrt_rtx` for RTX; one Python API, small differences.

`tensorrt` (10.13 and later, and 11) times kernels on the GPU that it builds for. `tensorrt_rtx` (1.7) builds one engine
for all GPUs of `RTX_CAPABILITIES` without seeing one, and picks kernels when the engine is first run. Its support
matrix has 7.5 (Turing) besides, which takes engines of its own and has no products in float32; neither 8.0 nor 9.0.
"""

import importlib
import logging
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from plumbline_models.backends.devices import compute_capability
from plumbline_models.core.errors import BackendUnavailableError

logger = logging.getLogger(__name__)

Package: TypeAlias = Literal["tensorrt", "tensorrt_rtx"]

PACKAGES: Final[tuple[Package, ...]] = ("tensorrt", "tensorrt_rtx")
RTX_CAPABILITIES: Final = ("8.6", "8.9", "12.0", "12.1")
"""Compute capabilities of the GPUs that engines of `tensorrt_rtx` serve here."""
PORTABLE_DEVICE: Final = "sm86+"
"""What an engine of `tensorrt_rtx` is bound to."""
_HINTS: Final[dict[Package, str]] = {
    "tensorrt": "pip install 'plumbline-serve[gpu]'",
    "tensorrt_rtx": "pip install 'plumbline-serve[rtx]'",
}


@dataclass(frozen=True, slots=True)
class TensorRtLibrary:
    """One of the two packages, imported.

    Args:
        api: The module, which has no types.
    """

    package: Package
    api: Any

    @property
    def version(self) -> str:
        """Package and version: the two never read each other's engines."""
        return f"{self.package} {self.api.__version__}"

    @property
    def times_kernels(self) -> bool:
        """Whether building takes a GPU, is bound to it, and gains from a timing cache."""
        return self.package == "tensorrt"

    @property
    def captures_graphs(self) -> bool:
        """Whether it records CUDA graphs itself; else whoever runs the engine does."""
        return self.package == "tensorrt_rtx"

    @property
    def fuses_attention(self) -> bool:
        """Whether its parser takes attention as one node, from `tensorrt` 10.14 on."""
        return hasattr(self.api, "IAttention")

    def new_logger(self) -> Any:
        """A logger of the library's own kind that writes to ours."""
        return _make_logger(self.api)


def open_library(*packages: Package) -> TensorRtLibrary:
    """Import the first of these packages that is installed.

    Raises:
        BackendUnavailableError: None is, or the one that is does not load.
    """
    for package in packages:
        try:
            return TensorRtLibrary(package, importlib.import_module(package))
        except ModuleNotFoundError as error:
            if error.name != package:
                raise _unavailable(package, error) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _unavailable(package, error) from error
    hints = " or ".join(_HINTS[package] for package in packages)
    raise BackendUnavailableError(f"TensorRT is not installed. Install it with: {hints}.", backend=packages[0])


def rtx_refusal(gpu: str) -> str | None:
    """Why `tensorrt_rtx` does not run on a GPU, in a sentence; None: it does, as far as is known.

    Args:
        gpu: As `cuda_devices` describes it.
    """
    capability = compute_capability(gpu)
    if capability is None or capability in RTX_CAPABILITIES:
        return None
    return (
        f"tensorrt_rtx runs on GPUs of compute capability {', '.join(RTX_CAPABILITIES)}, and {gpu} has {capability}: "
        f"install tensorrt ({_HINTS['tensorrt']}), or set backend to torch-compile."
    )


def _unavailable(package: Package, error: Exception) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"The package {package} is installed but does not load.", backend=package, reason=str(error)
    )


def _make_logger(api: Any) -> Any:
    """Defined here because its base class is known only once the package is imported."""
    levels = {
        api.ILogger.INTERNAL_ERROR: logging.ERROR,
        api.ILogger.ERROR: logging.ERROR,
        api.ILogger.WARNING: logging.DEBUG,  # of one build there are dozens, none of which asks for anything
        api.ILogger.INFO: logging.DEBUG,
        api.ILogger.VERBOSE: logging.NOTSET,
    }

    class _Logger(api.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(message)
            if level != logging.NOTSET:
                logger.log(logging.DEBUG, "%s: %s", api.__name__, message)

    return _Logger()
