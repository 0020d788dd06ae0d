"""The exposition of many processes, some of them late to answer."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from plumbline_serve.metrics import Instruments, LastSnapshots, Snapshot, exposition


def num_requests(snapshots: Sequence[Snapshot]) -> float:
    families = text_string_to_metric_families(exposition(snapshots).decode())
    samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "plumbline_requests_total")


def counting(num_answered: int) -> Instruments:
    instruments = Instruments()
    for _ in range(num_answered):
        instruments.request("/v1/score", "rest", "200", 0.01)
    return instruments


@pytest.fixture
def processes() -> list[Instruments]:
    return [counting(3), counting(5)]


def test_counters_do_not_fall_while_a_process_is_late(processes):
    first, second = processes
    last = LastSnapshots()
    assert num_requests(last.update([first.snapshot(), second.snapshot()], num_late=0)) == 8
    first.request("/v1/score", "rest", "200", 0.01)
    assert num_requests(last.update([first.snapshot()], num_late=1)) == 9
    assert num_requests(last.update([], num_late=2)) == 9
    assert num_requests(last.update([first.snapshot(), second.snapshot()], num_late=0)) == 9


def test_a_process_that_has_gone_is_forgotten(processes):
    first, second = processes
    last = LastSnapshots()
    last.update([first.snapshot(), second.snapshot()], num_late=0)
    assert num_requests(last.update([second.snapshot()], num_late=0)) == 5


def test_of_those_that_are_silent_the_late_one_is_who_answered_last(processes):
    gone, late = processes
    last = LastSnapshots()
    last.update([gone.snapshot(), late.snapshot()], num_late=0)
    last.update([late.snapshot()], num_late=1)
    assert num_requests(last.update([counting(7).snapshot()], num_late=1)) == 12


def test_a_scrape_that_was_overtaken_takes_nothing_back(processes):
    first, _ = processes
    last, old = LastSnapshots(), first.snapshot()
    first.request("/v1/score", "rest", "200", 0.01)
    last.update([first.snapshot()], num_late=0)
    assert num_requests(last.update([old], num_late=0)) == 4


class Replicas:
    """Answers a broadcast as Ray Serve's handle does, replica by replica."""

    deployment_name = "Gateway"

    def __init__(self, processes: Sequence[Instruments]) -> None:
        self.processes = processes
        self.late: set[int] = set()

    def broadcast(self, name: str) -> SimpleNamespace:
        assert name == "metrics_snapshot"
        return SimpleNamespace(_fetch_replica_results_async=self._ask)

    async def _ask(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(get_async=lambda index=index: self._answer(index)) for index in range(2)]

    async def _answer(self, index: int) -> Snapshot:
        if index in self.late:
            await asyncio.Event().wait()
        return self.processes[index].snapshot()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it is imported
async def test_a_late_replica_holds_up_neither_the_others_nor_its_own_counters(processes):
    from plumbline_serve.deployments.transport import DeploymentMetrics  # noqa: PLC0415 - Ray, under the filter above

    replicas: Any = Replicas(processes)
    metrics = DeploymentMetrics(replicas, timeout_s=0.2)
    assert num_requests(await metrics.gather()) == 8
    replicas.late = {1}
    processes[0].request("/v1/score", "rest", "200", 0.01)
    assert num_requests(await metrics.gather()) == 9
