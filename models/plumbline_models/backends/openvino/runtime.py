"""Imports OpenVINO without its telemetry, and says what its CPU device can do."""

import importlib
import logging
import sys
import threading
from functools import cache
from typing import Any

import numpy as np

from plumbline_models.core.errors import BackendUnavailableError
from plumbline_models.core.signal_stack import kept_signal_stack

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


@cache
def open_core() -> Any:
    """The `openvino.Core` of this process, its CPU device loaded; one, for each loads a device of its own.

    Raises:
        BackendUnavailableError: OpenVINO is not installed, or does not load here.
    """
    core = import_openvino().Core()
    with kept_signal_stack():
        core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


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
    """What the CPU computes natively, for example `FP32`, `BF16`, `INT8`.

    OpenVINO reads `BF16` from the processor, and its kernels heed `ONEDNN_MAX_CPU_ISA` besides; so it is tried, too.
    """
    told = frozenset(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return told if "BF16" not in told or _softens_in_bf16(core) else told - {"BF16"}


def saturates_in_int8(core: Any) -> bool:
    """Whether products in eight bits are wrong where they are large: two are added up in sixteen bits.

    So it is on x86 without VNNI (`avx512_vnni`, `avx_vnni`). Found by computing one row whose products are all as large
    as they can be, which takes 30 ms: right is 64, and 32.4 comes without VNNI.
    """
    openvino = import_openvino()
    ops, wide = openvino.opset13, 64
    row = ops.parameter([1, wide], np.float32)
    levels = ops.fake_quantize(row, *(np.float32(end) for end in (0, 1, 0, 1)), 256)
    weights = ops.multiply(ops.convert(ops.constant(np.full((1, wide), 127, np.int8)), "f32"), np.float32(1 / 127))
    product = ops.matmul(levels, weights, transpose_a=False, transpose_b=True)
    compiled = core.compile_model(openvino.Model([product], [row]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return bool(abs(compiled(np.ones((1, wide), np.float32))[0].item() - wide) > 1)


@cache
def _softens_in_bf16(core: Any) -> bool:
    openvino = import_openvino()
    ops, square = openvino.opset13, np.eye(64, dtype=np.float32)
    row = ops.parameter([1, 64], np.float32)
    chosen = ops.softmax(ops.matmul(row, square, transpose_a=False, transpose_b=True), 1)
    model = openvino.Model([ops.matmul(chosen, square, transpose_a=False, transpose_b=True)], [row])
    try:
        core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    except RuntimeError:
        return False
    return True
