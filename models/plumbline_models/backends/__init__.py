"""Compilers and runtimes: what turns a graph into an engine, and the only users of their frameworks."""

from plumbline_models.backends.fake import FakeBackend, FakeEngine
from plumbline_models.backends.registry import BACKENDS, BackendEntry, BackendRegistry, BackendStatus
from plumbline_models.backends.tuning import Device, Precision, PrecisionChoice, Tuning
from plumbline_models.core.protocols import Backend

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendEntry",
    "BackendRegistry",
    "BackendStatus",
    "Device",
    "FakeBackend",
    "FakeEngine",
    "Precision",
    "PrecisionChoice",
    "Tuning",
    "available_backends",
    "open_backend",
]


def open_backend(name: str, *, precision: PrecisionChoice, tuning: Tuning) -> Backend:
    """Open a backend; loads its framework at most, and no weights.

    Args:
        name: As in `BACKENDS`, or `auto`: the first of them that is installed and of use on this machine.
        precision: `auto` is fp16 on a GPU, bf16 on a CPU that computes it natively, else fp32.

    Raises:
        BackendUnavailableError: It is not installed, or cannot do this on this machine; the sentence says what
            helps.
        ConfigError: There is no such backend, or no such precision for it.
    """
    return BackendRegistry().open(name, precision=precision, tuning=tuning)


def available_backends() -> tuple[BackendStatus, ...]:
    """What `plumbline doctor` shows: every backend, whether it works here, and what to do if not."""
    return BackendRegistry().statuses()
