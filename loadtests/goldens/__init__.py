"""Golden weights, images and numbers, as tests and measurements both read them; the data lie in `tests/golden`."""

from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
