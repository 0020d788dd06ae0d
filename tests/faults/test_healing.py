"""Faults that the service survives: under load, no answer is wrong, and the client's retries save every call."""

import resource
import signal

import pytest

from loadtests.service.checked_load import CheckedLoad, Counts, away_s
from loadtests.service.faults import ENCODERS, GATEWAY, HEALING, Fault, living, wait_until_replaced
from tests.services import RunningService

pytestmark = pytest.mark.ray
NUM_BEFORE, NUM_AFTER = 60, 100
MIB = 2**20


def loaded(service: RunningService) -> CheckedLoad:
    return CheckedLoad(service.url, service.target)


def assert_nothing_was_lost(counts: Counts) -> None:
    assert not counts.wrong
    assert not counts.failed
    assert not counts.lost_in_full


def survive(service: RunningService, fault: Fault) -> None:
    with loaded(service) as load:
        load.wait_for(NUM_BEFORE)
        struck = fault.inject(service.process.pid)
        fault_at = load.counts.answered_at[-1]
        wait_until_replaced(service.process.pid, fault, struck)
        load.wait_for(NUM_AFTER)
    counts = load.counts
    before_s = fault_at - counts.answered_at[0]
    print(  # noqa: T201 - figures, for -s
        f"{fault}: half of the rate again after {away_s(counts.answered_at, fault_at, before_s=before_s):.0f} s, "
        f"{len(counts.answered_at)} answers, {sum(counts.lost.values())} lost, retried: {dict(counts.retried)}"
    )
    assert_nothing_was_lost(counts)


@pytest.mark.parametrize("fault", HEALING, ids=str)
def test_no_call_is_lost_to_a_fault_that_heals(fused: RunningService, fault: Fault) -> None:
    survive(fused, fault)


@pytest.mark.parametrize("fault", [Fault(ENCODERS), Fault(ENCODERS, signal.SIGSTOP), Fault(GATEWAY)], ids=str)
def test_no_call_is_lost_where_encoders_are_a_hop_away(split: RunningService, fault: Fault) -> None:
    survive(split, fault)


def test_no_call_is_lost_while_a_configuration_replaces_another(fused: RunningService) -> None:
    """A new gateway starts beside the one that answers; one that cannot be had changes nothing."""
    config = fused.log.with_name("plumbline.yaml")
    before = config.read_text(encoding="utf-8")
    with loaded(fused) as load:
        load.wait_for(NUM_BEFORE)
        (gateway,) = living(fused.process.pid, GATEWAY)
        fused.reconfigure(f"{before}batching: {{max_linger_ms: 5}}\n")
        fused.wait_until_logged("the new configuration answers callers")
        (successor,) = living(fused.process.pid, GATEWAY)
        assert successor != gateway
        fused.reconfigure("scorers: {clipscore: {checkpoint: nowhere.safetensors}}\n")
        fused.wait_until_logged("the new configuration is refused, and the one before goes on")
        load.wait_for(NUM_AFTER)
        assert living(fused.process.pid, GATEWAY) == {successor}
    config.write_text(before, encoding="utf-8")
    assert_nothing_was_lost(load.counts)


def test_batches_that_find_no_memory_are_told_and_leave_nothing_behind(fused: RunningService) -> None:
    """The gateway may take no more memory than it has: what needs more fails alone, or the gateway is replaced."""
    (gateway,) = living(fused.process.pid, GATEWAY)
    with loaded(fused) as load:
        load.wait_for(NUM_BEFORE)
        _, hard = resource.prlimit(gateway, resource.RLIMIT_DATA)
        resource.prlimit(gateway, resource.RLIMIT_DATA, (MIB, hard))
        load.wait_for(NUM_BEFORE)
        if gateway in living(fused.process.pid, GATEWAY):
            resource.prlimit(gateway, resource.RLIMIT_DATA, (hard, hard))
        load.wait_for(NUM_AFTER)
    assert not load.counts.wrong
    assert not load.counts.lost_in_full
