"""Imports OpenVINO without its telemetry, and says what its CPU device can do."""

import importlib
import logging
import sys
import threading
from typing import Any

import numpy as np

from plumbline_models.core.errors import BackendUnavailableError

logger = logging.getLogger(__name__)

INSTALL_HINT = "Install it with: pip install openvino"
_FIRST_USE = threading.Lock()


def import_openvino() -> Any:
    """The `openvino` package, which has no types.

    Its import reports to an analytics service unless a file in the home folder says otherwise. With the reporting
    package blocked it falls back to its own silent stand-in.

    Its bindings look numpy up when they first show a constant's values, and two threads that do so at once wait for
    each other for ever: one holds C++'s guard and waits for the interpreter lock, the other the other way round. So
    one thread does it here, before there are more.

    Raises:
        BackendUnavailableError: It is not installed, or does not load here.
    """
    with _FIRST_USE:
        openvino = _import()
        _ = openvino.op.Constant(np.zeros(1, dtype=np.float32)).data
    return openvino


def _import() -> Any:
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks an import
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(
            f"The openvino backend is not available. {INSTALL_HINT}.", backend="openvino", reason=str(error)
        ) from error


def cpu_capabilities(core: Any) -> frozenset[str]:
    """What the CPU computes natively, for example `FP32`, `BF16`, `INT8`."""
    return frozenset(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
