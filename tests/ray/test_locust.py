"""Every locust scenario, run for a moment against the real service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
SCENARIOS = {
    "Pairs /v1/score",
    "BestOf16 /v1/rank",
    "OneImageManyTexts /v1/score",
    "RepeatedPrompts /v1/score",
    "Filters /v1/filter",
    "GrpcPairs Score",
    "Streamed ScoreStream",
}


def test_every_scenario_is_answered_without_a_failure(service):
    """Each has one user, which finishes what it has begun when the time is up, however slow the machine is."""
    command = [
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--json", "--only-summary"),
        *("--users", f"{len(SCENARIOS)}", "--spawn-rate", f"{len(SCENARIOS)}", "--run-time", "1s"),
        *("--stop-timeout", "120", "--host", service.url, "--grpc-port", f"{service.grpc_port}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert set(entries) == SCENARIOS
    assert all(entry["num_requests"] > 0 and entry["num_failures"] == 0 for entry in entries.values())
