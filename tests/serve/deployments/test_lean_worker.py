"""A worker is what Ray would have started, by a shorter way where it asks for no environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_serve.deployments import lean_worker

WORKER = """
import json, os, sys
loaded = sorted({"pandas", "ray.serve"} & sys.modules.keys())
import pandas
print(json.dumps([sys.argv, sys.path, __name__, os.environ.get("ASKED"), loaded]))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """In the place of Ray's `default_worker`."""
    file = tmp_path / "worker.py"
    file.write_text(WORKER, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("context", "asked", "loaded"),
    [
        pytest.param({}, None, ["ray.serve"], id="no environment of its own"),
        pytest.param({"env_vars": {"ASKED": "so much"}}, "so much", [], id="one by Ray's own program"),
    ],
)
def test_a_worker_gets_what_ray_gives_it(
    context: dict[str, object], asked: str | None, loaded: list[str], program: Path
) -> None:
    given = ["--node-id=7", f"--serialized-runtime-env-context={json.dumps(context)}", "--language=PYTHON", "--x=y z"]
    command = [sys.executable, lean_worker.__file__, str(program), *given]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    arguments, path, *found = json.loads(ran.stdout)
    assert arguments == [str(program), "--node-id=7", "--x=y z"]
    assert str(program.parent) in path
    assert str(Path(lean_worker.__file__).parent) not in path
    assert found == ["__main__", asked, loaded]
