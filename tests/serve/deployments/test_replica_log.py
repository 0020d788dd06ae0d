"""A replica's log, as Ray Serve sets it up and as Plumbline joins it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import logging, sys
from logging.handlers import MemoryHandler
from plumbline_serve.deployments.logs import log_as_ray_serve_does

file = logging.FileHandler(sys.argv[1])
file.setFormatter(logging.Formatter("%(levelname)s -- %(message)s"))
logging.getLogger("ray.serve").handlers[:] = [MemoryHandler(1000, target=file)]  # as for a replica, throughput first
log_as_ray_serve_does()
logging.getLogger("plumbline_serve.edge.problems").info("request 7 refused")
sys.stdout.write(open(sys.argv[1]).read())
"""


def test_a_line_is_in_the_file_and_on_stderr_at_once(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "replica.log")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == "INFO -- request 7 refused\n"
    assert "INFO -- request 7 refused\n" in ran.stderr
