"""A replica's log, as Ray Serve sets it up and as Plumbline joins it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import logging, sys
from logging.handlers import MemoryHandler
from plumbline_serve.deployments.logs import log_as_ray_serve_does

file = logging.FileHandler(sys.argv[1])
file.setFormatter(logging.Formatter("%(levelname)s -- %(message)s"))
logging.getLogger("ray.serve").handlers[:] = [MemoryHandler(1000, target=file)]  # as for a replica, throughput first
log_as_ray_serve_does("info", "gateway")
logging.getLogger("plumbline_serve.edge.problems").info("request 7 refused")
logging.getLogger("plumbline_serve.edge.problems").debug("not heard")
logging.getLogger("ray.serve").warning("of Ray")
logging.shutdown()
sys.stdout.write(open(sys.argv[1]).read())
"""

RELAY = """
import logging, sys
import ray.serve  # which gives its logger a level
from ray._private.ray_logging import global_worker_stdstream_dispatcher as lines_of_workers
from plumbline_serve.deployments.logs import relay_lines
from plumbline_serve.logs import write_to

write_to(sys.stderr, "info", sys.argv[1])
relay_lines(sys.argv[1])
ours = '{"time":"2026-01-01T00:00:00.000Z","level":"info","process":"gateway","message":"request","code":"200"}'
lost = "(raylet) [2026-01-01 00:00:00,123 E 1 1] (raylet) node.cc:1: lost"
calm = "(raylet) [2026-01-01 00:00:00,123 I 1 1] (raylet) node.cc:1: ends"
lines_of_workers.emit({"pid": 7, "actor_name": "Gateway", "lines": [ours], "is_err": True})
lines_of_workers.emit({"pid": "raylet", "lines": [lost, calm, ""], "is_err": False})
serves = "WARNING 2026-01-01 00:00:00,123 controller 1 -- late"
settings = ["  * Direct ingress enabled", "Task ServeController.graceful_shutdown failed. It will be retried."]
lines_of_workers.emit({"pid": 8, "actor_name": "ServeController", "lines": [*settings, serves], "is_err": True})
failed = "ERROR 2026-01-01 00:00:00,123 controller 1 -- failed"
lines_of_workers.emit({"pid": 8, "actor_name": "ServeController", "lines": [failed, "Traceback (most"]})
logging.getLogger("ray.serve").info("Started Serve in namespace serve.")
lines_of_workers.emit({"pid": 7, "actor_name": "Gateway", "lines": ["Fatal Python error: Segmentation fault"]})
"""


def test_a_line_is_in_the_file_and_on_stderr_when_the_process_ends(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "replica.log")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours, rays = ran.stdout.splitlines()
    line = json.loads(ours)
    assert (line["level"], line["process"], line["message"]) == ("info", "gateway", "request 7 refused")
    assert rays == "WARNING -- of Ray"
    assert ours in ran.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_of_rays_processes_are_lines_of_ours_on_stderr(form: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RELAY, form], capture_output=True, text=True, check=True
    )
    assert ran.stdout == ""
    if form == "text":
        assert [line.split(" ", 1)[1] for line in ran.stderr.splitlines()] == [
            "INFO request code=200 process=gateway",
            'WARNING "(raylet) [2026-01-01 00:00:00,123 E 1 1] (raylet) node.cc:1: lost" of=raylet'.replace('"', ""),
            "WARNING ERROR 2026-01-01 00:00:00,123 controller 1 -- failed of=ServeController",
            "WARNING Traceback (most of=ServeController",
            "INFO Fatal Python error: Segmentation fault of=Gateway",
        ]
        return
    first, *others = map(json.loads, ran.stderr.splitlines())
    assert (first["message"], first["process"], first["code"]) == ("request", "gateway", "200")
    assert [(each["level"], each["of"]) for each in others] == [
        ("warning", "raylet"), ("warning", "ServeController"), ("warning", "ServeController"), ("info", "Gateway"),
    ]  # fmt: skip
