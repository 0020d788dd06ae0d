"""The monitor: it bets once per slice, forgets with its reference, and leaves out what made it."""

from collections.abc import Mapping

import numpy as np
import pytest

from plumbline_serve.drift import DriftMonitor, LiveWindows, Reference, Slices
from plumbline_serve.metrics import Instruments, exposition

WINDOW_S = 60.0


class World:
    """Two processes that give scores, a clock, and a reference of standard normal ones."""

    def __init__(self) -> None:
        self.now = 10_000.0
        self.rng = np.random.default_rng(0)
        self.processes = [LiveWindows(WINDOW_S, clock=lambda: self.now) for _ in range(2)]
        self.references = {"imagereward": Reference.of_values(self.draw(5000), are_probabilities=False)}
        self.monitor = DriftMonitor(self.known, self.gather, window_s=WINDOW_S, clock=lambda: self.now)

    async def known(self) -> Mapping[str, Reference]:
        return self.references

    def draw(self, num: int, by: float = 0.0) -> list[float]:
        return [float(each) for each in self.rng.normal(by, 1.0, num)]

    async def gather(self) -> Mapping[str, Slices]:
        return {str(index): each.slices() for index, each in enumerate(self.processes)}

    def give(self, num: int, by: float = 0.0) -> None:
        for index, value in enumerate(self.draw(num, by)):
            self.processes[index % 2].scored("imagereward", value, None)
        self.now += WINDOW_S / 6


async def test_it_bets_once_for_each_slice_that_is_over():
    world = World()
    values = []
    for _ in range(4):
        world.give(400, by=1.0)
        values += [(await world.monitor.look())["imagereward"].e_value for _ in range(3)]
    assert values[0] == values[1] == values[2] == pytest.approx(1.5, abs=1e-3)
    assert values[-1] == pytest.approx(1.5**4, rel=1e-2)


async def test_scores_of_all_processes_count_and_drift_is_seen_and_passes():
    world = World()
    world.give(600)
    entry = (await world.monitor.look())["imagereward"]
    assert (entry.m, entry.n, entry.severity) == (600, 5000, "none")
    assert not world.monitor.has_drifted("imagereward")
    world.give(600, by=0.5)
    assert (await world.monitor.look())["imagereward"].severity == "high"
    assert world.monitor.has_drifted("imagereward")
    assert not world.monitor.has_drifted("clipscore")
    for _ in range(6):
        world.give(600)
    assert (await world.monitor.look())["imagereward"].severity == "none"


async def test_a_new_reference_begins_a_new_bet():
    world = World()
    for _ in range(3):
        world.give(400, by=1.0)
    assert (await world.monitor.look())["imagereward"].e_value > 2
    world.references = {"imagereward": Reference.of_values(world.draw(5000, by=1.0), are_probabilities=False)}
    entry = (await world.monitor.look())["imagereward"]
    assert entry.e_value < 2
    assert entry.severity == "none"
    world.references = {}
    assert await world.monitor.look() == {}
    assert not world.monitor.has_drifted("imagereward")


async def test_what_went_into_a_reference_is_not_held_against_it():
    world = World()
    world.give(600, by=3.0)
    slices = await world.monitor.slices()
    reference = Reference.of_live(slices, "imagereward", are_probabilities=False, now_s=world.now)
    world.references = {"imagereward": reference}
    assert (await world.monitor.look())["imagereward"].m == 0
    world.give(300)
    assert (await world.monitor.look())["imagereward"].m == 300
    assert world.monitor.has_drifted("imagereward")


async def test_gauges_say_what_the_entries_say_once_for_all_processes():
    world = World()
    world.give(600, by=1.0)
    both = [Instruments(), Instruments()]
    for each in both:
        each.drifts(await world.monitor.look())
    text = exposition([each.snapshot() for each in both]).decode()
    assert 'plumbline_drift_severity{scorer="imagereward"} 3.0' in text
    assert 'plumbline_drift_window_scores{scorer="imagereward"} 600.0' in text
    assert "plumbline_drift_entropy{" not in text  # no probabilities
    both[0].drifts({})
    assert "plumbline_drift_severity{" not in exposition([both[0].snapshot()]).decode()
