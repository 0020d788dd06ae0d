"""Compilers and runtimes: what turns a graph into an engine, and the only users of their frameworks."""

from plumbline_models.backends.ahead import AheadCompiler, KeptEngine, ListingBackend, Progress
from plumbline_models.backends.devices import cuda_devices
from plumbline_models.backends.fake import FakeBackend, FakeEngine
from plumbline_models.backends.registry import BACKENDS, BackendEntry, BackendRegistry, BackendStatus
from plumbline_models.backends.tuning import Device, Precision, PrecisionChoice, Tuning
from plumbline_models.core.engines import Backend

__all__ = [
    "BACKENDS",
    "AheadCompiler",
    "Backend",
    "BackendEntry",
    "BackendRegistry",
    "BackendStatus",
    "Device",
    "FakeBackend",
    "FakeEngine",
    "KeptEngine",
    "ListingBackend",
    "Precision",
    "PrecisionChoice",
    "Progress",
    "Tuning",
    "available_backends",
    "chosen_backend",
    "cuda_devices",
    "open_backend",
    "open_compiler",
]


def open_backend(name: str, *, precision: PrecisionChoice, tuning: Tuning) -> Backend:
    """Open a backend; loads its framework at most, and no weights.

    Args:
        name: As in `BACKENDS`, or `auto`: the first of them that is installed and of use on this machine.
        precision: `auto` is fp16 on a GPU, bf16 on a CPU that computes it natively, else fp32; `int8` is for image
            towers on OpenVINO, and `auto` for all other graphs.

    Raises:
        BackendUnavailableError: It is not installed, or cannot do this on this machine; the sentence says what
            helps.
        ConfigError: There is no such backend, or no such precision for it.
    """
    return BackendRegistry().open(name, precision=precision, tuning=tuning)


def open_compiler(name: str, *, precision: PrecisionChoice, tuning: Tuning) -> AheadCompiler:
    """Open what builds a backend's engines ahead of time, into `tuning.cache_dir`.

    Args:
        name: As in `BACKENDS`, or `auto`.
        precision: As for `open_backend`.

    Raises:
        BackendUnavailableError: It is not installed, or needs a device that is not here.
        ConfigError: There is no such backend or precision, or it compiles nothing.
    """
    return BackendRegistry().open_compiler(name, precision=precision, tuning=tuning)


def chosen_backend(name: str) -> str:
    """The name of the backend that `open_backend` would open; imports no framework.

    Args:
        name: As in `BACKENDS`, or `auto`.

    Raises:
        BackendUnavailableError: None is installed.
        ConfigError: There is no such backend.
    """
    return BackendRegistry().choose(name, "auto").name


def available_backends() -> tuple[BackendStatus, ...]:
    """What `plumbline doctor` shows: every backend, whether it works here, and what to do if not."""
    return BackendRegistry().statuses()
