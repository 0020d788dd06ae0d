"""Everything about a GPU in one command: `python -m loadtests.gpu.measure --out docs/gpu`.

Measures rows a second of every graph and batch against torch eager and torch.compile in bf16 on the same GPU in the
same run, the share of the GPU's own matrix-product peak, and from JPEG bytes to scores images a second and latencies at
70 % of that. Writes `gpu.json` and `gpu.md` after every graph, so that a run which is cut off leaves what it has. It
needs torch, safetensors and Pillow; where TensorRT and onnxscript are installed too, TensorRT is measured.

Every engine is compared with torch in float32 before it is timed; `--parity` holds it against the papers' golden
numbers besides, which takes all of Plumbline's packages. `--tiny` runs the same code on tiny shapes on the CPU.

Exit status: 0 measured, 1 measured with failures, 3 no NVIDIA GPU here.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from loadtests.gpu import jpeg_to_score, rates
from loadtests.gpu.shapes import FULL, TINY, Measured
from loadtests.gpu.tables import write_markdown
from plumbline_models.backends import BACKENDS, Device, Tuning
from plumbline_models.backends.devices import cuda_devices

OK, SOME_FAILED, NO_GPU = 0, 1, 3


def main(words: Sequence[str] | None = None) -> int:
    """Measure what there is and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="no graph is begun, and no engine opened, after that"
    )
    parser.add_argument(
        "--only", action="append", metavar="GRAPH", help="part of a graph's name; the others are left out"
    )
    parser.add_argument("--backend", choices=["tensorrt", "tensorrt-rtx"], help="default: the first installed")
    parser.add_argument("--variants", action="store_true", help="TensorRT without CUDA graphs and without weights, too")
    parser.add_argument("--parity", action="store_true", help="golden numbers, with all of Plumbline installed")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU: whether this program works")
    arguments = parser.parse_args(words)
    if not arguments.tiny and not torch.cuda.is_available():
        print("There is no NVIDIA GPU here that torch can use: nothing was measured.", file=sys.stderr)
        return NO_GPU
    backend = None if arguments.tiny else arguments.backend or _installed()
    if backend is None:
        print("TensorRT is not measured: it is not installed, or not for this run.", file=sys.stderr)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = _Run(arguments, backend, Path(folder)).measure()
    return SOME_FAILED if report["failures"] else OK


def _installed() -> str | None:
    return next((entry.name for entry in BACKENDS if entry.name.startswith("tensorrt") and entry.is_installed), None)


class _Run:
    """One run of the program."""

    def __init__(self, arguments: argparse.Namespace, backend: str | None, folder: Path) -> None:
        self._arguments = arguments
        self._backend = backend
        self._folder = folder
        device: Device = "cpu" if arguments.tiny else "cuda"
        num_threads = 1 if arguments.tiny else len(os.sched_getaffinity(0))
        self._tuning = Tuning(folder / "cache", device=device, num_threads=num_threads)
        ends_at = time.monotonic() + 60 * arguments.minutes
        self._pace = rates.Pace(ends_at, 2, peak_side=256) if arguments.tiny else rates.Pace(ends_at)
        self._failures: list[str] = []
        self._report: dict[str, Any] = {}

    def measure(self) -> dict[str, Any]:
        """The report, which is on the disk by then."""
        device = torch.device(self._tuning.device)
        peak = rates.matrix_peak_flops(device, self._pace.peak_side)
        self._report = {
            "devices": list(cuda_devices()) if device.type == "cuda" else ["a CPU, tiny shapes"],
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "torch": torch.__version__,
            "backend": self._backend,
            "peak_tflops": peak / 1e12,
            "parity": [],
            "rates": [],
            "jpeg_to_score": [],
            "failures": self._failures,
        }
        if self._arguments.parity:
            self._report["parity"] = self._tried("parity", self._parity)
        openers = rates.openers(self._backend, self._tuning, has_variants=self._arguments.variants)
        for index, measured in enumerate(self._chosen()):
            if self._pace.left_s <= 0:
                self._failures.append(f"{measured.label}: no time was left")
                continue
            print(f"measuring {measured.label}, {self._pace.left_s:.0f} s left", file=sys.stderr)
            self._tried(measured.label, lambda: self._measure(measured, openers, peak, is_first=index == 0))  # noqa: B023 - run at once
            if device.type == "cuda":
                torch.cuda.empty_cache()
            self._write()
        self._write()
        return self._report

    def _chosen(self) -> list[Measured]:
        wanted = self._arguments.only or [""]
        shapes = TINY if self._arguments.tiny else FULL
        return [each for each in shapes.measured() if any(part in each.label for part in wanted)]

    def _measure(
        self, measured: Measured, openers: Mapping[str, rates.OpenEngine], peak: float, *, is_first: bool
    ) -> list[dict[str, Any]]:
        found = rates.measure(measured, openers, peak_flops=peak, pace=self._pace)
        self._report["rates"] += found.rows
        failed = {name: why for row in found.rows for name, why in row["failures"].items()}
        self._failures += [f"{measured.label}, {name}: {why}" for name, why in failed.items()]
        ours = {name: rate for name, rate in _best(found.rows).items() if not name.startswith("torch ")}
        ours.pop("torch.compile bf16", None)
        if is_first and ours and measured.unit == "images":
            name = max(ours, key=lambda each: ours[each])
            offered = jpeg_to_score.Offered(16, 8) if self._arguments.tiny else jpeg_to_score.Offered()
            device = 0 if self._tuning.device == "cuda" else None
            row = jpeg_to_score.measure(measured, found.engines[name], offered, device=device)
            row |= {"engine": name, "share_of_the_engine": row["images_a_second"] / ours[name]}
            self._report["jpeg_to_score"].append(row)
        return found.rows

    def _parity(self) -> list[dict[str, Any]]:
        from loadtests.gpu import parity  # noqa: PLC0415 - open_clip and much else, for those who ask for it

        backend = self._backend or "torch-compile"
        rows = parity.measure(backend, self._folder, self._tuning)
        if self._backend is not None and self._arguments.variants:
            rows += parity.measure_stripped(self._backend, self._folder, self._tuning)
        return rows

    def _tried(self, what: str, measure: Any) -> list[dict[str, Any]]:
        """What came out, or nothing and a line among the failures: a run on borrowed time is not lost to one graph."""
        try:
            rows: list[dict[str, Any]] = measure()
        except Exception as error:  # noqa: BLE001 - whatever it was, the rest is measured
            self._failures.append(f"{what}: {type(error).__name__}: {error}")
            print(self._failures[-1], file=sys.stderr)
            return []
        return rows

    def _write(self) -> None:
        out = self._arguments.out
        (out / "gpu.json").write_text(json.dumps(self._report, indent=2) + "\n", encoding="utf-8")
        write_markdown(self._report, out / "gpu.md")


def _best(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The best rate of each engine, whatever the batch."""
    best: dict[str, float] = {}
    for row in rows:
        for name, rate in row["rows_a_second"].items():
            best[name] = max(rate, best.get(name, 0.0))
    return best


if __name__ == "__main__":
    sys.exit(main())
