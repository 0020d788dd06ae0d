"""Two services on one machine, as where a new version is tried beside the old one: each answers its own callers."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from plumbline_client import Client, GrpcClient, Image, Item
from plumbline_serve.machine.ports import free_ports
from plumbline_wire.v1 import scoring_pb2 as wire
from plumbline_wire.v1 import scoring_pb2_grpc

pytestmark = pytest.mark.ray

OWN = {"503 not_ready", "UNAVAILABLE", "qualiclip"}
"""What a service may say of itself while it has no gateway."""
NUM_CALLS = 8  # HAProxy takes turns; one call alone might meet the right one by chance


def test_callers_of_one_service_are_never_answered_by_another(start, png_of, tmp_path, gateways_of):
    long_tmp = str(tmp_path / "where the paths of sockets would be too long")
    Path(long_tmp).mkdir()
    services = {"clipscore": start("scorers: {clipscore: {}}")}
    port, grpc_port = free_ports(2)
    with watched(port, grpc_port) as seen:
        services["qualiclip"] = start("scorers: {qualiclip: {}}", ports=(port, grpc_port), TMPDIR=long_tmp)
    # Once, on a busy machine, a call hung for its whole minute; it was no neighbour's answer.
    assert seen <= OWN | {"DEADLINE_EXCEEDED"}
    assert "503 not_ready" in seen

    item = Item(image=Image.data(png_of(1)), text="a red circle")
    for scorer, service in services.items():
        with Client(service.url) as rest, GrpcClient(service.target) as grpc_client:
            for _ in range(NUM_CALLS):
                for client in (rest, grpc_client):
                    (result,) = client.score([item]).results
                    assert set(result.scores) == {scorer}

    (gateway,) = gateways_of(services["qualiclip"].process.pid)
    with watched(port, grpc_port) as seen:
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: len(gateways_of(services["qualiclip"].process.pid) - {gateway}) == 1)
        wait_until(lambda: scorers_by_rest(port) == scorers_by_grpc(grpc_port) == "qualiclip")
    assert seen <= OWN


@contextmanager
def watched(port: int, grpc_port: int):
    """What callers of a service are answered meanwhile: names of scorers, or codes of errors."""
    seen: set[str] = set()
    is_over = threading.Event()

    def ask(answer: Callable[[int], str | None], of: int) -> None:
        while not is_over.wait(0.1):
            if (found := answer(of)) is not None:
                seen.add(found)

    threads = [
        threading.Thread(target=ask, args=each) for each in ((scorers_by_rest, port), (scorers_by_grpc, grpc_port))
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def scorers_by_rest(port: int) -> str | None:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/scorers", timeout=60)
    except httpx.TransportError:
        return None  # nothing listens yet, or HAProxy gave up the gateway that had the call
    if not answer.is_success:
        assert "retry-after" in answer.headers
        return f"{answer.status_code} {answer.json()['code']}"
    return " ".join(scorer["id"] for scorer in answer.json()["scorers"])


def scorers_by_grpc(port: int) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            found = scoring_pb2_grpc.ScoringStub(channel).ListScorers(wire.ListScorersRequest(), timeout=60)
        except grpc.RpcError as error:
            return error.code().name
    return " ".join(scorer.id for scorer in found.scorers)


def wait_until(is_so: Callable[[], bool]) -> None:
    """The test's own time limit ends it otherwise."""
    pause = threading.Event()
    while not is_so():
        pause.wait(0.1)
