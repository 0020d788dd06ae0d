"""What cannot be written is said, as a process shows it: on real descriptors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "plumbline_serve.cli"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit status and stderr of `plumbline models` by what stdout was; all at once, for each takes seconds."""
    environment = os.environ | {"PLUMBLINE_BACKEND": "torch", "PLUMBLINE_SCORERS": '{"clipscore": {}}'}
    reader, gone = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full:
        started = {
            "full": subprocess.Popen([*COMMAND, "models"], stdout=full, stderr=subprocess.PIPE, env=environment),
            "gone": subprocess.Popen([*COMMAND, "models"], stdout=gone, stderr=subprocess.PIPE, env=environment),
            "closed": subprocess.Popen(
                ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "models"], stderr=subprocess.PIPE, env=environment
            ),
        }
    os.close(gone)
    found = {}
    for name, process in started.items():
        _, errors = process.communicate()
        found[name] = (process.returncode, errors.decode())
    return found


@pytest.mark.parametrize(
    ("stdout", "said"),
    [
        pytest.param("full", "plumbline: The output cannot be written: No space left on device.", id="full"),
        pytest.param("closed", "plumbline: The output cannot be written: Bad file descriptor.", id="closed"),
        pytest.param("gone", "", id="the reader has gone"),
    ],
)
def test_output_that_cannot_be_written_is_a_failure_and_a_sentence(ended, stdout: str, said: str) -> None:
    status, errors = ended[stdout]
    assert (status, errors.strip()) == (1, said)
