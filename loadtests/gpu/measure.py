"""Everything about a GPU in one command: `python -m loadtests.gpu.measure --out docs/gpu`.

Checks parity on the golden cases in every precision, then measures rows a second of every graph and batch against
torch eager and torch.compile in bf16 on the same GPU in the same run, the share of the GPU's own matrix-product peak,
what CUDA graphs gain, what engines without weights lose, and images a second from JPEG bytes to scores. Writes
`gpu.json` and `gpu.md`. Where TensorRT does not work on the GPU it says so and measures the rest.

Exit status: 0 measured, 1 measured with failures, 3 no NVIDIA GPU here.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from loadtests.gpu import end_to_end, parity, rates
from loadtests.gpu.shapes import CLIPS, Measured, clip_graphs, flant5_graphs
from loadtests.gpu.tables import write_markdown
from plumbline_models.backends import BACKENDS, Tuning
from plumbline_models.backends.devices import cuda_devices

OK, SOME_FAILED, NO_GPU = 0, 1, 3
END_TO_END = "ViT-L-14-336-quickgelu"


def main() -> int:
    """Measure what there is and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument("--only", choices=[*CLIPS, "flant5"], action="append", help="measure these alone")
    parser.add_argument("--backend", choices=["tensorrt", "tensorrt-rtx"], help="default: the first installed")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no NVIDIA GPU here that torch can use: nothing was measured.", file=sys.stderr)
        return NO_GPU
    backend = arguments.backend or _installed()
    if backend is None:
        print("Neither tensorrt nor tensorrt_rtx is installed: torch alone is measured.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        report = _measure(backend, set(arguments.only or [*CLIPS, "flant5"]), Path(folder))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    write_markdown(report, arguments.out / "gpu.md")
    return SOME_FAILED if report["failures"] else OK


def _installed() -> str | None:
    return next((entry.name for entry in BACKENDS if entry.name.startswith("tensorrt") and entry.is_installed), None)


def _measure(backend: str | None, wanted: set[str], folder: Path) -> dict[str, Any]:
    tuning = Tuning(folder / "cache", device="cuda")
    failures: list[str] = []
    peak = rates.matrix_peak_flops()
    report: dict[str, Any] = {
        "devices": list(cuda_devices()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "torch": torch.__version__,
        "backend": backend,
        "peak_tflops": peak / 1e12,
        "parity": [
            *_tried(failures, "parity", lambda: parity.measure(backend, folder, tuning) if backend else []),
            *_tried(
                failures,
                "parity without weights",
                lambda: parity.measure_stripped(backend, folder, tuning) if backend else [],
            ),
        ],
        "rates": [],
        "failures": failures,
    }
    openers = rates.openers(backend, tuning)
    for measured in _graphs(wanted, folder):
        print(f"measuring {measured.label}", file=sys.stderr)
        rows = _tried(failures, measured.label, lambda: rates.measure(measured, openers, peak))  # noqa: B023 - run at once
        report["rates"] += rows
        failures += [f"{row['graph']}, {engine}: {why}" for row in rows for engine, why in row["failures"].items()]
        torch.cuda.empty_cache()
    if backend is not None and END_TO_END in wanted:
        checkpoint = {"arch": END_TO_END, "checkpoint": str(folder / f"{END_TO_END}.safetensors")}
        found = _tried(failures, "end to end", lambda: [end_to_end.measure(backend, checkpoint, folder / "cache")])
        report["end_to_end"] = [row | _share(row["images_a_second"], backend, report["rates"]) for row in found]
    return report


def _share(images_a_second: float, backend: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What part of the tower's own best rate arrives; nothing where that rate was not measured."""
    rates = [
        rate
        for row in rows
        if row["graph"] == f"{END_TO_END} clip_image"
        for engine, rate in row["rows_a_second"].items()
        if engine.startswith(backend)
    ]
    return {"share_of_the_engine": images_a_second / max(rates)} if rates else {}


def _graphs(wanted: set[str], folder: Path) -> list[Measured]:
    found = [measured for arch in CLIPS if arch in wanted for measured in clip_graphs(arch, folder)]
    return [*found, *(flant5_graphs() if "flant5" in wanted else [])]


def _tried(failures: list[str], what: str, measure: Any) -> list[dict[str, Any]]:
    """What came out, or nothing and a line among the failures: a run on borrowed time is not lost to one graph."""
    try:
        rows: list[dict[str, Any]] = measure()
    except Exception as error:  # noqa: BLE001 - whatever it was, the rest is measured
        failures.append(f"{what}: {type(error).__name__}: {error}")
        print(failures[-1], file=sys.stderr)
        return []
    return rows


if __name__ == "__main__":
    sys.exit(main())
