"""Nobody who reaches a port of the service has it unpickle what they send."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import program_environment
from tests.ray.hostile_pickles import OUTSIDE

pytestmark = pytest.mark.ray
PROGRAM = Path(__file__).with_name("hostile_pickles.py")
CONFIG = "backend: torch\nscorers: {clipscore: {}}\nreplicas: {layout: split}\n"


def attacked(folder: Path, address: str, config: str = CONFIG, **variables: str) -> dict[str, Any]:
    """What the attack found, in a network of its own."""
    (folder / "plumbline.yaml").write_text(config)
    may = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if may.returncode:
        pytest.skip("no network of its own can be made here: unshare --net needs root")
    command = ["unshare", "--net", sys.executable, str(PROGRAM), str(folder), address]
    environment = program_environment(PLUMBLINE_CACHE_DIR=str(folder / "cache"), **variables)
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    found: dict[str, Any] = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))
    return found


def test_from_another_machine_only_the_two_ports_for_callers_are_open_and_none_runs_a_pickle(tmp_path: Path) -> None:
    found = attacked(tmp_path, OUTSIDE)
    assert set(found["open"]) == {"8000", "9000"}
    assert len(found["ports"]) > 8, "Ray's own listen as well, on loopback"
    assert found["ran"] == []
    assert found["is_alive"]


def test_from_this_machine_none_runs_a_pickle_without_the_token(tmp_path: Path) -> None:
    found = attacked(tmp_path, "127.0.0.1")
    assert {"8000", "9000"} < set(found["open"])
    assert found["ran"] == []
    assert any("UNAUTHENTICATED" in codes for codes in found["statuses"]["grpc"].values())
    assert found["is_alive"]


def test_where_the_token_is_switched_off_the_same_attack_runs_code_and_the_log_warns(tmp_path: Path) -> None:
    """So the tests above would notice."""
    config = f"{CONFIG}auth: {{require_ray_token: false}}\n"
    found = attacked(tmp_path, "127.0.0.1", config, RAY_AUTH_MODE="disabled")
    assert [name for name in found["ran"] if name.startswith("grpc-")]
    assert "auth.require_ray_token is false" in found["log"]
