"""Faults that the service does not survive: it ends at once, with a cause, and leaves nothing for a start to meet."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from loadtests.service.checked_load import CheckedLoad
from loadtests.service.faults import ENDING, GATEWAY, Fault, living
from plumbline_serve.deployments import lean_agent
from plumbline_serve.machine.ports import obstacle
from plumbline_serve.machine.processes import find, name_of, send
from tests.faults.conftest import CONFIG
from tests.services import RunningService, processes_below

pytestmark = pytest.mark.ray
pause = threading.Event().wait
FAILED = 1
END_S = 300  # tells a hang from an end; how soon it comes is the machine's
POLL_S = 0.05  # a loop without a pause takes one of two cores from the service
CAUSES = {
    "gcs_server": "control store",
    "raylet": "node manager",
}


def assert_nothing_is_left(service: RunningService, below: dict[int, str]) -> None:
    assert not {pid: name for pid, name in below.items() if find(pid) is not None}
    assert not [port for port in (service.port, service.grpc_port) if obstacle("127.0.0.1", port)]


@pytest.mark.parametrize("fault", ENDING, ids=str)
def test_the_service_ends_with_a_cause_where_ray_would_not_start_a_process_again(
    start: Callable[..., RunningService], fault: Fault
) -> None:
    service = start()
    below = processes_below(service.process.pid)
    with httpx.Client(base_url=service.url, timeout=60) as caller:
        assert caller.get("/readyz").status_code == 200
        fault.inject(service.process.pid)
        assert service.process.wait(END_S) == FAILED
    said = service.log.read_text(encoding="utf-8")
    assert "The service ends: Ray's " in said
    assert f"Ray's {CAUSES[fault.process]}" in said
    assert_nothing_is_left(service, below)


def test_the_service_ends_with_what_stands_for_an_agent_of_rays(start: Callable[..., RunningService]) -> None:
    """Ray's node goes with either; where that changes, they are to be watched themselves."""
    service = start()
    below = processes_below(service.process.pid)
    named = [pid for pid, command in below.items() if lean_agent.__file__ in command]
    for_agents = [pid for pid in named if name_of(pid) != "raylet"]
    assert len(for_agents) == 2
    send(for_agents[0], signal.SIGKILL)
    assert service.process.wait(END_S) == FAILED
    assert f"Ray's {CAUSES['raylet']}" in service.log.read_text(encoding="utf-8")
    assert_nothing_is_left(service, below)


def test_a_gateway_that_dies_again_and_again_ends_the_service(start: Callable[..., RunningService]) -> None:
    """Never a command that lives on and answers 503 for ever."""
    service = start()
    while service.process.poll() is None:
        for pid in living(service.process.pid, GATEWAY):
            send(pid, signal.SIGKILL)
        pause(POLL_S)
    assert service.process.returncode == FAILED
    assert "callers were not answered for" in service.log.read_text(encoding="utf-8")


def test_what_was_killed_holds_no_port_that_the_next_start_needs(start: Callable[..., RunningService]) -> None:
    service = start()
    for is_the_command_alone in (True, False):
        below = processes_below(service.process.pid)
        for pid in [service.process.pid, *(() if is_the_command_alone else below)]:
            send(pid, signal.SIGKILL)
        service.process.wait(END_S)
        while any((process := find(pid)) is not None and not process.has_ended for pid in below):
            pause(POLL_S)
        service = start(ports=(service.port, service.grpc_port))
        assert httpx.get(f"{service.url}/readyz", timeout=60).status_code == 200


def test_a_second_start_on_the_same_ports_is_refused_and_the_first_lives_on(
    start: Callable[..., RunningService], tmp_path: Path
) -> None:
    first = start()
    with CheckedLoad(first.url, first.target) as load:
        load.wait_for(20)
        second = start(CONFIG, is_awaited=False, ports=(first.port, first.grpc_port))
        assert second.process.wait(END_S) == 2
        load.wait_for(60)
    assert f"Nothing can listen on 127.0.0.1:{first.port}" in second.log.read_text(encoding="utf-8")
    assert not load.counts.lost_in_full
    assert not load.counts.wrong


@pytest.mark.parametrize(
    ("seen", "number"),
    [
        pytest.param("", signal.SIGTERM, id="SIGTERM as soon as there is a child"),
        pytest.param("gcs_server", signal.SIGINT, id="SIGINT while Ray starts"),
        pytest.param("raylet", signal.SIGTERM, id="SIGTERM while Ray starts"),
        pytest.param("ray::ServeController", signal.SIGINT, id="SIGINT while Ray Serve starts"),
        pytest.param("haproxy", signal.SIGTERM, id="SIGTERM while HAProxy starts"),
        pytest.param(GATEWAY, signal.SIGINT, id="SIGINT while encoders load"),
    ],
)
def test_a_start_that_is_stopped_ends_at_once(
    start: Callable[..., RunningService], seen: str, number: signal.Signals
) -> None:
    service = start(is_awaited=False)
    while not living(service.process.pid, seen):
        assert service.process.poll() is None, service.log.read_text(encoding="utf-8")[-4000:]
        pause(POLL_S)
    below = processes_below(service.process.pid)
    os.killpg(service.process.pid, number)
    assert service.process.wait(END_S) == 0
    assert service.process.stdout is not None
    assert service.process.stdout.read() == ""
    assert_nothing_is_left(service, below)


def test_signals_to_the_whole_group_drain_the_service_once(start: Callable[..., RunningService]) -> None:
    service = start()
    below = processes_below(service.process.pid)
    with CheckedLoad(service.url, service.target) as load:
        load.wait_for(60)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.killpg(service.process.pid, number)
        assert service.process.wait(END_S) == 0
    assert not load.counts.wrong
    assert not load.counts.failed
    assert not load.counts.lost_in_full
    refused = {"draining", "not_ready"}
    assert all(kind in refused or "not reached" in kind for kind in load.counts.retried), load.counts.retried
    assert_nothing_is_left(service, below)
