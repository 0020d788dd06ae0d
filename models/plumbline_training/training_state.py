"""Where a training program stands, on disk, so that an interruption loses little."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state; it appears under its name only when it is complete."""
    half_written = path.with_suffix(".part")
    torch.save(dict(state), half_written)
    half_written.replace(path)
