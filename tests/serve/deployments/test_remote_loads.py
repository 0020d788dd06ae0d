"""What gateways know of how busy the encoder replicas are."""

from dataclasses import replace

import pytest

from plumbline_serve.batching import Backlog, EncoderLoad
from plumbline_serve.batching.pace import Line
from plumbline_serve.deployments.hop import Loads
from plumbline_serve.deployments.remote_loads import RemoteLoads
from plumbline_serve.scheduling.request_context import RequestContext

KEY = "clip/image"
HOUR = 3600.0


def load(num_waiting: int, each_s: float = HOUR) -> EncoderLoad:
    """Of an encoder that takes so long for each input; an hour, so that the test's own time counts for nothing."""
    backlog = Backlog()
    if num_waiting:
        backlog.change(RequestContext(), 0, cost=num_waiting, num=1)
    return EncoderLoad(
        line=Line(0.0, each_s),
        max_batch=1.0,
        num_streams=1,
        left_s=0.0,
        input_cost=1.0,
        arrival_rates={},
        backlog=backlog,
    )


def waits_h(loads: RemoteLoads) -> float:
    """Hours that a new request with one input would wait."""
    known = loads.load(KEY)
    assert known is not None
    forecast = known.forecast(RequestContext(), 1)
    return (forecast.done_s - forecast.own_s) / HOUR


def test_nothing_is_known_before_a_replica_has_said_anything():
    assert RemoteLoads().load(KEY) is None


def test_the_least_busy_replica_counts():
    loads = RemoteLoads()
    loads.hear(Loads("a", {KEY: load(9)}))
    loads.hear(Loads("b", {KEY: load(2)}))
    assert waits_h(loads) == pytest.approx(2.0)
    loads.hear(Loads("b", {KEY: load(12)}))
    assert waits_h(loads) == pytest.approx(9.0)


def test_what_a_deterministic_request_asked_counts_as_batches_of_one_until_it_is_answered():
    loads, context = RemoteLoads(), RequestContext(is_deterministic=True)
    loads.hear(Loads("a", {KEY: replace(load(0), line=Line(HOUR, HOUR), max_batch=4.0)}))
    loads.reserve(KEY, context, 5)
    known = loads.load(KEY)
    assert known is not None
    assert known.drain_s / HOUR == pytest.approx(5 * (1 + 1), rel=0.1)
    loads.answered(KEY, context, 5)
    assert waits_h(loads) == 0.0


def test_what_was_asked_since_counts_where_it_is_more_than_what_the_replicas_said():
    loads, context = RemoteLoads(), RequestContext()
    loads.hear(Loads("a", {KEY: load(1)}))
    loads.reserve(KEY, context, 6)
    assert waits_h(loads) == pytest.approx(1.0)  # a single input goes before most of a larger request
    for _ in range(5):
        loads.reserve(KEY, RequestContext(), 1)
    assert waits_h(loads) == pytest.approx(6.0)
    loads.answered(KEY, context, 6)
    assert waits_h(loads) == pytest.approx(5.0)


def test_a_request_that_is_over_counts_no_longer():
    loads, context = RemoteLoads(), RequestContext()
    loads.hear(Loads("a", {KEY: load(0)}))
    loads.reserve(KEY, context, 4)
    loads.release(context)
    assert waits_h(loads) == 0.0


def test_work_is_divided_among_the_replicas():
    loads = RemoteLoads()
    for name in ("a", "b"):
        loads.hear(Loads(name, {KEY: load(0)}))
    for _ in range(8):
        loads.reserve(KEY, RequestContext(), 1)
    assert waits_h(loads) == pytest.approx(4.0)


def test_what_a_replica_said_long_ago_is_done_by_now():
    loads = RemoteLoads()
    loads.hear(Loads("a", {KEY: replace(load(5, each_s=1e-9), left_s=1e-9)}))
    assert waits_h(loads) == 0.0
