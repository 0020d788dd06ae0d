"""Runs every test, in two processes: what starts Ray waits for half of its time, and the other tests run beside it.

    python -m tests.side_by_side

The other tests are shown as they run; what the first have to say follows when both are done. Only one of the two starts
Ray: services that start at once would fight for the cores.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

STARTS_RAY = ("tests/faults", "tests/ray")
PYTEST = (sys.executable, "-m", "pytest")


def main() -> int:
    """Run all tests.

    Returns:
        The exit status of pytest, of the first of the two that failed.
    """
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches both, which clean up; this program waits for them
    own_cache = ("-o", "cache_dir=.pytest_cache/ray")
    return run_both(
        shown=[*PYTEST, *(f"--ignore={folder}" for folder in STARTS_RAY)], kept=[*PYTEST, *own_cache, *STARTS_RAY]
    )


def run_both(*, shown: Sequence[str], kept: Sequence[str]) -> int:
    """Run two commands at the same time.

    Args:
        shown: What it prints is seen at once.
        kept: What it prints is seen when both have ended.

    Returns:
        The exit status of the first of them that failed; 0 if none did.
    """
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(kept, stdout=said, stderr=subprocess.STDOUT) as beside:
            status = subprocess.run(shown, check=False).returncode
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout.buffer)
        sys.stdout.flush()
    return status or beside.returncode


if __name__ == "__main__":
    raise SystemExit(main())
