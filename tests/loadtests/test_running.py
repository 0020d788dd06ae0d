"""Programs that are told to stop leave nothing behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.aims import ROOT
from loadtests.service.running import stopping

PROGRAM = """
import signal, time
from loadtests.service.running import stopping, workplace
with workplace() as folder:
    print(folder, flush=True)
    try:
        time.sleep(60)
    finally:
        {cleaning}
"""


@pytest.mark.parametrize(
    "cleaning",
    [
        pytest.param("pass", id="once"),
        pytest.param("signal.raise_signal(signal.SIGTERM)", id="and again while it cleans up"),
    ],
)
def test_sigterm_leaves_as_an_exception_does(cleaning):
    text = PROGRAM.format(cleaning=cleaning)
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not folder.exists()


def test_a_process_that_does_not_heed_sigterm_is_ended_by_force():
    text = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with pytest.raises(subprocess.TimeoutExpired), stopping(process, timeout_s=0.2):
        assert process.stdout.readline() == "deaf\n"
    assert process.wait(60) == -signal.SIGKILL
