"""Our engines against the numbers of the papers' own programs, in every precision."""

from pathlib import Path
from typing import Any

from precision import HEADS

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.protocols import Workshop
from plumbline_models.encoders import Shelf

PRECISIONS = ("fp32", "fp16", "bf16")


def measure(backend: str, folder: Path, tuning: Tuning) -> list[dict[str, Any]]:
    """A row for each head, set of golden cases and precision: the largest error, and Spearman's correlation."""
    exact = open_backend(backend, precision="fp32", tuning=tuning)
    engines = {
        precision: Workshop(open_backend(backend, precision=precision, tuning=tuning), Shelf(), reference=exact)
        for precision in PRECISIONS
    }
    return [{"head": head, **row} for head, compare in HEADS.items() for row in compare(folder, engines)]
