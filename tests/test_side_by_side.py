"""The two halves of `make test`: which of them starts Ray, and that what either says and returns counts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.side_by_side import STARTS_RAY

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys
from tests.side_by_side import run_both
say = "import sys; print(sys.argv[1]); raise SystemExit(int(sys.argv[2]))"
shown, kept = ([sys.executable, "-c", say, name, status] for name, status in zip(("shown", "kept"), sys.argv[1:]))
raise SystemExit(run_both(shown=shown, kept=kept))
"""


def test_whatever_starts_ray_is_where_nothing_else_does() -> None:
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.ray" in path.read_text(encoding="utf-8")]
    others = {str(path.relative_to(ROOT)) for path in marked if path != Path(__file__)}
    assert others
    assert all(name.startswith(STARTS_RAY) for name in others)


@pytest.mark.parametrize(("statuses", "status"), [(("0", "0"), 0), (("3", "4"), 3), (("0", "4"), 4)])
def test_both_are_shown_and_the_first_that_failed_counts(statuses: tuple[str, str], status: int) -> None:
    command = [sys.executable, "-c", PROGRAM, *statuses]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode, ran.stdout) == (status, "shown\nkept\n")
