"""What `plumbline serve` does with signals and with what its service leaves, on real processes."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Start: TypeAlias = Callable[..., subprocess.Popen[str]]

LEFTOVER = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PROGRAM = f"""
import os, signal, subprocess, sys, time
from plumbline_serve.launch.supervisor import Stage, supervise

def service(report):
    left = subprocess.Popen([sys.executable, "-c", {LEFTOVER!r}], stdout=subprocess.PIPE, start_new_session=True)
    ended = subprocess.Popen(["true"])
    left.stdout.readline()
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(print("told", flush=True)))
    if KIND == "reads anew":
        signal.signal(signal.SIGHUP, lambda *_: print("read", flush=True))
    if KIND not in {{"starts", "gives up"}}:
        report(Stage.READY)
    print(left.pid, ended.pid, flush=True)
    if KIND == "gives up":
        report(Stage.STOPPING)
        time.sleep(3)  # several times as long as between two looks
        return 7
    while not (told and KIND in {{"stops", "reads anew"}}):
        time.sleep(0.1)
    return 7

class Nothing:
    def look(self, stage):
        return "the lamp is out." if KIND in {{"cannot go on", "gives up"}} and stage >= Stage.READY else None

KIND = sys.argv[1]
sys.exit(supervise(service, Nothing(), stop_timeout_s=0.5 if KIND == "hangs" else 60))
"""


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def starter(kind: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, kind]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes, text=True, start_new_session=True, **options))
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
        pytest.param("starts", 0, "told\n", id="by force, and as asked for, where it is not ready"),
    ],
)
def test_a_signal_to_the_whole_group_reaches_the_service_once_and_nothing_is_left(
    kind: str, status: int, said: str, start: Start
) -> None:
    process = start(kind)
    assert process.stdout is not None
    left = process.stdout.readline().split()
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == status
    assert process.stdout.read() == said
    assert not [pid for pid in left if is_there(int(pid))]


def test_a_service_whose_supervisor_was_killed_stops(start: Start) -> None:
    process = start("stops")
    assert process.stdout is not None
    left = int(process.stdout.readline().split()[0])
    process.kill()
    assert process.stdout.readline() == "told\n"
    os.kill(left, signal.SIGKILL)
    while is_there(left):
        time.sleep(0.05)


def test_a_service_that_cannot_go_on_ends_with_its_cause(start: Start) -> None:
    process = start("cannot go on")
    assert process.stdout is not None
    left = process.stdout.readline().split()
    assert process.wait(60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == "The service ends: the lamp is out.\n"
    assert not [pid for pid in left if is_there(int(pid))]


def test_a_service_that_stops_by_itself_is_not_judged_by_what_it_has_ended(start: Start) -> None:
    process = start("gives up")
    assert process.wait(60) == 7
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_hangup_has_the_service_read_its_configuration_anew(start: Start) -> None:
    process = start("reads anew")
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGHUP)
    assert process.stdout.readline() == "read\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 7
    assert process.stdout.read() == "told\n"


def test_a_hangup_ends_no_service_that_does_not_listen_to_it(start: Start) -> None:
    process = start("stops")
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 7
    assert process.stdout.read() == "told\n"


def test_a_service_stops_when_its_terminal_is_closed(start: Start) -> None:
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, as it should be

    process = start("stops", preexec_fn=take_terminal)
    os.close(theirs)
    assert process.stdout is not None
    process.stdout.readline()
    os.close(ours)
    assert process.wait(60) == 7
    assert process.stdout.read() == "told\n"


def test_signals_of_all_kinds_at_once_are_one_wish(start: Start) -> None:
    process = start("stops")
    assert process.stdout is not None
    process.stdout.readline()
    for number in (signal.SIGTERM, signal.SIGINT) * 200:
        process.send_signal(number)
    assert process.wait(60) == 7
    assert process.stdout.read() == "told\n"
