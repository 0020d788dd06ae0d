"""Our engines against the numbers of the papers' own programs, in every precision, and with weights beside engines."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtests.gpu.rates import refuse
from loadtests.scorers.precision import SCORERS
from plumbline_models.backends import Precision, Tuning, open_backend
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.encoder_registry import EncoderRegistry

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")


def measure(backend: str, folder: Path, tuning: Tuning) -> list[dict[str, Any]]:
    """A row for each scorer, set of golden cases and precision: the largest error, and Spearman's correlation."""
    return _compare(folder, {precision: _context(backend, precision, tuning) for precision in PRECISIONS})


def measure_stripped(backend: str, folder: Path, tuning: Tuning) -> list[dict[str, Any]]:
    """The same rows of engines without weights, in fp16; fails where anything stands in for one."""
    apart = replace(tuning, strips_weights=True, on_fallback=refuse)
    return _compare(folder, {"fp16 without weights": _context(backend, "fp16", apart)})


def _context(backend: str, precision: Precision, tuning: Tuning) -> BuildContext:
    exact = open_backend(backend, precision="fp32", tuning=tuning)
    return BuildContext(open_backend(backend, precision=precision, tuning=tuning), EncoderRegistry(), reference=exact)


def _compare(folder: Path, engines: Mapping[str, BuildContext]) -> list[dict[str, Any]]:
    return [{"scorer": scorer, **row} for scorer, compare in SCORERS.items() for row in compare(folder, engines)]
