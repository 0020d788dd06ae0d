"""Rows a second, host memory to host memory, of our engines and of torch on the same device in the same run."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
NUM_PEAK_RUNS = 25
NUM_FIRST_RUNS = 5
"""Of an engine: they compile, record and warm up, and are not counted."""


@dataclass(frozen=True)
class Pace:
    """How long is measured.

    Args:
        ends_at: By `time.monotonic`, when the run has to be over.
        num_rounds: Of each engine at each batch, at most.
        rounds_s: Of them together.
        peak_side: Of the square matrices whose product is the measured peak.
    """

    ends_at: float
    num_rounds: int = 20
    rounds_s: float = 3.0
    peak_side: int = 8192

    @property
    def left_s(self) -> float:
        """Seconds."""
        return self.ends_at - time.monotonic()


@dataclass
class Rates:
    """What was measured of one graph."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    engines: dict[str, Engine] = field(default_factory=dict)


def matrix_peak_flops(device: torch.device, side: int) -> float:
    """What the device really reaches on one large bf16 product, FLOP/s.

    Args:
        device: The GPU, or the CPU.
        side: Of the square factors.
    """
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds: list[float] = []
    for _ in range(NUM_FIRST_RUNS + NUM_PEAK_RUNS):
        _synchronise(device)
        started = time.perf_counter()
        torch.matmul(left, right)
        _synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 2 * float(side) ** 3 / statistics.median(seconds[NUM_FIRST_RUNS:])


def openers(backend: str | None, tuning: Tuning, *, has_variants: bool) -> dict[str, OpenEngine]:
    """What is compared: torch eager and compiled, our `torch-compile`, and TensorRT where it works here.

    Args:
        backend: TensorRT's by its name; None: it is not there.
        tuning: Of all engines.
        has_variants: Whether TensorRT without CUDA graphs and without weights is measured as well.
    """
    device = torch.device("cpu" if tuning.device == "cpu" else "cuda")

    def ours(name: str, precision: Any, **choices: Any) -> OpenEngine:
        chosen = replace(tuning, on_fallback=refuse, **choices)
        return lambda graph: open_backend(name, precision=precision, tuning=chosen).compile(graph)

    openers: dict[str, OpenEngine] = {
        "torch eager bf16": ours("torch", "bf16"),
        "torch.compile bf16": lambda graph: _compiled(graph, device),
        "torch-compile bf16": ours("torch-compile", "bf16"),
    }
    if backend is not None:
        openers |= {f"{backend} {precision}": ours(backend, precision) for precision in ("bf16", "fp16")}
    if backend is not None and has_variants:
        openers[f"{backend} fp16 without CUDA graphs"] = ours(backend, "fp16", records_launches=False)
        openers[f"{backend} fp16 without weights"] = ours(backend, "fp16", strips_weights=True)
    return openers


def refuse(graph: str, backend: str) -> None:
    """Have nothing stand in for an engine, for `Tuning.on_fallback`."""
    raise EngineError(f"The engine of {graph} failed on {backend}.", graph=graph)  # the log says why


def measure(measured: Measured, openers: Mapping[str, OpenEngine], *, peak_flops: float, pace: Pace) -> Rates:
    """A row for each batch size: every engine's rows a second, medians of rounds taken in turn.

    Args:
        measured: The graph.
        openers: Of the engines, by name.
        peak_flops: What shares are of.
        pace: How long.
    """
    found, failures = Rates(), dict[str, str]()
    for name, opener in openers.items():
        if pace.left_s <= 0:
            failures[name] = "no time was left"
            continue
        try:
            found.engines[name] = opener(measured.graph)
        except (PlumblineError, RuntimeError) as error:
            failures[name] = str(error)
    flop = flop_of_a_row(measured)
    for batch in reversed(measured.batches):  # the largest is what torch.compile specialises on
        if pace.left_s <= 0:
            break
        rates, broken = _rates(found.engines, measured, batch, pace=pace)
        shares = {name: rate * flop / peak_flops for name, rate in rates.items()}
        found.rows.append(
            {
                "graph": measured.label,
                "batch": batch,
                "unit": measured.unit,
                "rows_a_second": rates,
                "share_of_peak": shares,
                "failures": {**failures, **broken},
            }
        )
    gc.collect()
    return found


def flop_of_a_row(measured: Measured) -> float:
    """Floating-point operations of one row, counted on its module without weights."""
    with torch.device("meta"):
        module = measured.make()
    inputs = [torch.from_numpy(array).to("meta") for array in measured.draw(1).values()]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops())


def _rates(
    engines: Mapping[str, Engine], measured: Measured, num_rows: int, *, pace: Pace
) -> tuple[dict[str, float], dict[str, str]]:
    batch = measured.draw(num_rows)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    broken: dict[str, str] = {}
    counted_from = time.monotonic()
    for number in range(-NUM_FIRST_RUNS, pace.num_rounds):
        if number == 0:
            counted_from = time.monotonic()
        if number > 0 and time.monotonic() - counted_from > pace.rounds_s:
            break
        for name in [name for name in engines if name not in broken]:
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


def _compiled(graph: Graph, device: torch.device) -> Engine:
    """As anyone would write it."""
    module: Any = torch.compile(graph.build().eval().to(device, torch.bfloat16))
    info = EngineInfo(graph=graph.name, backend="torch", precision="bf16", device=str(device), key="")
    return TorchEngine(module, graph=graph, info=info)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
