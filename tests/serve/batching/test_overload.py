"""What more work than time does: refused on arrival, and all that the encoder can do goes to callers who still wait."""

from typing import Any

import pytest

from plumbline_serve.scheduling.request_context import Caller
from tests.serve.batching.simulation import CAPACITY, MAX_BATCH, Arrival, Simulation, poisson

SECONDS = 60.0
LARGE: dict[str, Any] = {"max_batch": 64.0, "fixed_s": 0.012, "each_s": 0.036}
"""ViT-B/32 on two cores: a full batch takes 2.3 s."""


@pytest.mark.parametrize("timeout_s", [0.5, 2.0, 30.0, None])
@pytest.mark.parametrize(("times", "least"), [(0.7, 0.68), (1.5, 0.95), (2.0, 0.95), (4.0, 0.95)])
def test_single_inputs_are_served_in_time_as_fast_as_can_be(times, least, timeout_s):
    run = Simulation().run(poisson(times * CAPACITY, SECONDS, timeout_s=timeout_s))
    assert run.goodput(max(SECONDS, run.now)) >= least
    assert run.num_in_vain <= 0.02 * run.num_computed
    assert len(run.late) <= 0.03 * len(run.served)
    assert bool(run.refused) is (times > 1)


@pytest.mark.parametrize("timeout_s", [2.0, 30.0, None])
@pytest.mark.parametrize("times", [2.0, 4.0])
def test_requests_of_32_are_served_in_time_as_fast_as_can_be(times, timeout_s):
    run = Simulation().run(poisson(times * CAPACITY / 32, SECONDS, num_inputs=32, timeout_s=timeout_s))
    assert run.goodput(max(SECONDS, run.now)) >= 0.95
    assert run.num_in_vain <= 0.02 * run.num_computed


@pytest.mark.parametrize("times", [2.0, 4.0])
def test_without_admission_nearly_all_work_is_in_vain(times):
    run = Simulation(admits_all=True).run(poisson(times * CAPACITY, SECONDS, timeout_s=2.0))
    assert run.goodput(SECONDS) < 0.1
    assert run.num_in_vain > 0.9 * run.num_computed


@pytest.mark.parametrize("timeout_s", [0.5, 2.0, 30.0, None])
@pytest.mark.parametrize(("times", "least"), [(2.0, 0.95), (4.0, 0.9)])
def test_an_encoder_whose_largest_batch_outlasts_deadlines_is_as_good(times, least, timeout_s):
    run = Simulation(**LARGE)
    run.run(poisson(times * run.capacity, SECONDS, timeout_s=timeout_s))
    assert run.goodput(max(SECONDS, run.now)) >= least
    assert run.num_in_vain <= 0.03 * run.num_computed
    assert run.num_computed / len(run.batches) <= 16


def test_an_encoder_that_gains_by_large_batches_keeps_them():
    run = Simulation(max_batch=64.0, fixed_s=0.012, each_s=0.0005)
    run.run(poisson(2 * run.capacity, 5.0, timeout_s=2.0))
    assert run.goodput(run.now) >= 0.97
    assert max(batch.total() for batch in run.batches) == 64


def test_batch_work_is_shed_and_the_rest_is_served():
    normal = poisson(0.8 * CAPACITY, SECONDS, seed=1, timeout_s=2.0)
    batch = poisson(CAPACITY, SECONDS, seed=2, timeout_s=2.0, priority="batch")
    run = Simulation().run(normal, batch)
    assert {arrival.priority for arrival in run.refused} == {"batch"}
    assert {request.arrival.priority for request in run.late} <= {"batch"}
    assert run.goodput(SECONDS) >= 0.95


def test_no_lane_starves():
    interactive = poisson(2 * CAPACITY, SECONDS, seed=1, timeout_s=2.0, priority="interactive")
    batch = poisson(CAPACITY, SECONDS, seed=2, timeout_s=10.0, priority="batch")
    run = Simulation().run(interactive, batch)
    served = sum(request.arrival.priority == "batch" for request in run.served)
    assert served >= 0.7 * SECONDS * CAPACITY / 17


def test_a_tenant_with_large_requests_takes_nothing_from_one_with_single_inputs():
    single = poisson(0.4 * CAPACITY, SECONDS, seed=1, timeout_s=2.0, caller=Caller("single"))
    bulk = poisson(2 * CAPACITY / 32, SECONDS, seed=2, num_inputs=32, timeout_s=2.0, caller=Caller("bulk"))
    run = Simulation().run(single, bulk)
    assert {arrival.caller.tenant for arrival in run.refused} == {"bulk"}
    assert {request.arrival.caller.tenant for request in run.late} <= {"bulk"}


def test_tenants_are_served_by_weight():
    arrivals = [
        poisson(2 * CAPACITY, SECONDS, seed=seed, timeout_s=2.0, caller=Caller(name, weight))
        for seed, (name, weight) in enumerate([("three", 3.0), ("one", 1.0)])
    ]
    run = Simulation().run(*arrivals)
    served = [sum(request.arrival.caller.tenant == name for request in run.served) for name in ("three", "one")]
    assert served[0] / served[1] == pytest.approx(3.0, rel=0.25)


def test_a_lone_large_request_without_a_deadline_is_served_however_long_it_takes():
    warm = [Arrival(i * 1.0) for i in range(9)]
    run = Simulation(max_wait_s=0.5).run([*warm, Arrival(20.0, num_inputs=256)])
    assert not run.refused
    assert run.now > 20.0 + 256 / MAX_BATCH * 0.1
    assert run.served[-1].arrival.num_inputs == 256


def test_nothing_is_refused_before_anything_is_known():
    run = Simulation(max_wait_s=0.001).run([Arrival(0.0, num_inputs=20) for _ in range(20)])
    assert not run.refused


def test_a_request_that_is_too_long_for_its_deadline_is_refused_while_others_wait_and_tried_alone():
    warm = [Arrival(i * 1.0) for i in range(9)]
    busy = [Arrival(20.0, num_inputs=32), Arrival(20.0, num_inputs=256, timeout_s=1.0)]
    alone = [Arrival(40.0, num_inputs=256, timeout_s=1.0)]
    run = Simulation().run([*warm, *busy, *alone])
    assert run.refused == [busy[1]]
    assert [request.arrival for request in run.late] == alone
