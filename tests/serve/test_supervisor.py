"""What `plumbline serve` does with signals and with what its service leaves, on real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LEFTOVER = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PROGRAM = f"""
import signal, subprocess, sys, time
from plumbline_serve.supervisor import supervise

def service():
    left = subprocess.Popen([sys.executable, "-c", {LEFTOVER!r}], stdout=subprocess.PIPE, start_new_session=True)
    ended = subprocess.Popen(["true"])
    left.stdout.readline()
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(print("told", flush=True)))
    print(left.pid, ended.pid, flush=True)
    while not (told and STOP):
        time.sleep(0.1)
    return 7

STOP = sys.argv[1] == "stops"
sys.exit(supervise(service, stop_timeout_s=60 if STOP else 0.5))
"""


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def starter(kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, kind]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield starter
    for process in started:
        with process:
            process.kill()


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        pytest.param("stops", 7, "told\n", id="the service's own status, and told once"),
        pytest.param("hangs", 1, "told\n", id="by force where it does not stop"),
    ],
)
def test_a_signal_to_the_whole_group_reaches_the_service_once_and_nothing_is_left(
    kind: str, status: int, said: str, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = start(kind)
    assert process.stdout is not None
    left = process.stdout.readline().split()
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == status
    assert process.stdout.read() == said
    assert not [pid for pid in left if is_there(int(pid))]


def test_a_service_whose_supervisor_was_killed_stops(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start("stops")
    assert process.stdout is not None
    left = int(process.stdout.readline().split()[0])
    process.kill()
    assert process.stdout.readline() == "told\n"
    os.kill(left, signal.SIGKILL)
    while is_there(left):
        time.sleep(0.05)
