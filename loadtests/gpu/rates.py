"""Rows a second, host memory to host memory, of our engines and of torch on the same GPU in the same run."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch.utils.flop_counter import FlopCounterMode

from loadtests.gpu.shapes import Measured
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.backends.torch_backend import TorchEngine
from plumbline_models.core.engines import Engine, EngineInfo
from plumbline_models.core.errors import EngineError, PlumblineError
from plumbline_models.core.graph import Graph

OpenEngine: TypeAlias = Callable[[Graph], Engine]
PEAK_SIDE = 8192
NUM_ROUNDS = 20


def matrix_peak_flops() -> float:
    """What this GPU really reaches on one large bf16 product, FLOP/s."""
    left, right = (torch.randn(PEAK_SIDE, PEAK_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds: list[float] = []
    for _ in range(30):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        torch.matmul(left, right)
        ended.record()
        ended.synchronize()
        seconds.append(started.elapsed_time(ended) / 1000)
    return 2 * PEAK_SIDE**3 / statistics.median(seconds[5:])


def openers(backend: str | None, tuning: Tuning) -> dict[str, OpenEngine]:
    """What is compared; torch eager and compiled always, ours where the backend works here."""
    openers: dict[str, OpenEngine] = {"torch eager bf16": _eager(tuning), "torch.compile bf16": _compiled}
    if backend is not None:
        plain = replace(tuning, records_launches=False)
        openers |= {
            f"{backend} {p}": open_backend(backend, precision=p, tuning=tuning).compile for p in ("fp16", "bf16")
        }
        openers[f"{backend} fp16 without CUDA graphs"] = open_backend(backend, precision="fp16", tuning=plain).compile
        apart = replace(tuning, strips_weights=True, on_fallback=refuse)
        openers[f"{backend} fp16 without weights"] = open_backend(backend, precision="fp16", tuning=apart).compile
    return openers


def refuse(graph: str, backend: str) -> None:
    """Have nothing stand in for an engine without weights, for `Tuning.on_fallback`."""
    raise EngineError(f"The engine of {graph} without weights failed on {backend}.", graph=graph)  # the log says why


def measure(measured: Measured, openers: Mapping[str, OpenEngine], peak_flops: float) -> list[dict[str, Any]]:
    """A row for each batch size: every engine's rows a second, medians of rounds taken in turn."""
    engines: dict[str, Engine] = {}
    failures: dict[str, str] = {}
    for name, opener in openers.items():
        try:
            engine = opener(measured.graph)
        except (PlumblineError, RuntimeError) as error:
            failures[name] = str(error)
            continue
        if engine.info.backend == "torch" and not name.startswith("torch"):
            failures[name] = "the engine did not build or load, and torch stood in for it"  # the log says why
            continue
        engines[name] = engine
    flop = flop_of_a_row(measured)
    rows = []
    for batch in measured.batches:
        rates, broken = _rates(engines, measured, batch)
        shares = {name: rate * flop / peak_flops for name, rate in rates.items()}
        rows.append(
            {
                "graph": measured.label,
                "batch": batch,
                "unit": measured.unit,
                "rows_a_second": rates,
                "share_of_peak": shares,
                "failures": {**failures, **broken},
            }
        )
    return rows


def flop_of_a_row(measured: Measured) -> float:
    """Floating-point operations of one row, counted on torch's module."""
    module = measured.graph.build()
    inputs = [torch.from_numpy(array) for array in measured.draw(1).values()]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops())


def _rates(engines: Mapping[str, Engine], measured: Measured, num_rows: int) -> tuple[dict[str, float], dict[str, str]]:
    batch = measured.draw(num_rows)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    broken: dict[str, str] = {}
    for number in range(-5, NUM_ROUNDS):  # the first few compile, record and warm up
        for name in seconds.keys() - broken.keys():
            started = time.perf_counter()
            try:
                engines[name].run(batch)
            except PlumblineError as error:
                broken[name] = error.detail
                continue
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    rates = {name: num_rows / statistics.median(times) for name, times in seconds.items() if name not in broken}
    return rates, broken


def _eager(tuning: Tuning) -> OpenEngine:
    return open_backend("torch", precision="bf16", tuning=replace(tuning, device="cuda")).compile


def _compiled(graph: Graph) -> Engine:
    module: Any = torch.compile(graph.build().eval().to("cuda", torch.bfloat16))
    info = EngineInfo(graph=graph.name, backend="torch", precision="bf16", device="cuda", key="")
    return TorchEngine(module, graph=graph, info=info)
