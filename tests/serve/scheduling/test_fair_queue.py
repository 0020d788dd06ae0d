"""Who is next: by priority, by weight, by cost, whatever else stands in the queue."""

import weakref
from collections import Counter

import pytest

from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.fair_queue import FairQueue
from plumbline_serve.scheduling.request_context import LANE_WEIGHTS, PRIORITIES, Caller, RequestContext


def request_of(tenant="", *, weight=1.0, priority="normal"):
    return RequestContext(Deadline(), Caller(tenant, weight), priority)


def taken(queue, count, **limits):
    """Names of the next units."""
    return [unit for _ in range(count) for _, unit in queue.pop(**limits)]


class Followed(RequestContext):
    """One that a test can see the end of."""


@pytest.fixture
def queue() -> FairQueue[str]:
    return FairQueue()


@pytest.fixture
def fill(queue):
    def fill_it(name, count, *, cost=1.0, context=None):
        context = context or request_of()
        queue.push(context, [(cost, f"{name}{index}") for index in range(count)])
        return context

    return fill_it


def test_a_request_that_comes_late_is_next(queue, fill):
    fill("large", 100)
    assert taken(queue, 3) == ["large0", "large1", "large2"]
    fill("small", 1)
    assert taken(queue, 2) == ["small0", "large3"]


def test_requests_of_one_tenant_take_turns(queue, fill):
    for name in "abc":
        fill(name, 2)
    assert taken(queue, 6) == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_turns_go_by_cost_and_not_by_number(queue, fill):
    fill("dear", 2, cost=4.0)
    fill("cheap", 8)
    order = taken(queue, 10)
    assert order[:6] == ["dear0", "cheap0", "cheap1", "cheap2", "cheap3", "dear1"]


def test_a_tenant_of_many_requests_gets_no_more_than_one_of_one(queue, fill):
    for index in range(9):
        fill(f"crowd{index}.", 10, context=request_of("crowd"))
    fill("lone", 10, context=request_of("lone"))
    kinds = Counter(name[0] for name in taken(queue, 20))
    assert kinds == {"c": 10, "l": 10}


def test_tenants_share_by_weight(queue, fill):
    fill("a", 100, context=request_of("a", weight=3.0))
    fill("b", 100, context=request_of("b", weight=1.0))
    assert Counter(name[0] for name in taken(queue, 40)) == {"a": 30, "b": 10}


def test_lanes_share_by_priority_and_none_stands_still(queue, fill):
    for priority in PRIORITIES:
        fill(priority, 100, context=request_of(priority=priority))
    first = Counter(name.rstrip("0123456789") for name in taken(queue, 21))
    assert first == {priority: LANE_WEIGHTS[priority] for priority in PRIORITIES}


def test_who_sends_one_unit_at_a_time_gains_nothing_by_it(queue, fill):
    fill("large", 100)
    context = request_of()
    order: list[str] = []
    for _ in range(20):
        if not any(name.startswith("one") for name in order[-1:]):
            fill("one", 1, context=context)
        order += taken(queue, 1)
    assert Counter(name.rstrip("0123456789") for name in order)["one"] <= 11


def test_an_idle_tenant_saves_up_no_claim(queue, fill):
    fill("busy", 50, context=request_of("busy"))
    taken(queue, 30)
    fill("late", 50, context=request_of("late"))
    assert Counter(name.rstrip("0123456789") for name in taken(queue, 20)) == {"busy": 10, "late": 10}


def test_a_large_request_has_its_turns_while_new_ones_keep_coming(queue, fill):
    for index in range(4):
        fill(f"first{index}.", 1)
    fill("large", 100)
    order: list[str] = []
    for index in range(100):
        order += taken(queue, 1)
        if not order[-1].startswith("large"):
            fill(f"new{index}.", 1)
    assert sum(name.startswith("large") for name in order) in {19, 20}  # a fifth, but for where it begins


def test_requests_that_have_gone_are_forgotten_while_others_keep_coming(queue, fill):
    seen: list[weakref.ref[RequestContext]] = []
    for _ in range(200):
        seen.append(weakref.ref(fill("one", 1, context=Followed())))
        if len(seen) > 10:
            taken(queue, 1)
    assert queue.num_units == 10
    assert sum(ref() is not None for ref in seen) <= 3 * queue.num_units


def test_what_is_dropped_leaves_every_count_and_nobody_waits_for_it(queue, fill):
    gone = fill("gone", 1000, context=request_of("gone"))
    fill("here", 2, context=request_of("here"))
    assert (queue.num_units, queue.cost) == (1002, 1002.0)
    queue.drop(gone, lambda _: True)
    assert (queue.num_units, queue.cost) == (2, 2.0)
    assert taken(queue, 3) == ["here0", "here1"]
    assert (queue.num_units, queue.cost) == (0, 0.0)


def test_some_units_of_a_request_may_be_dropped(queue, fill):
    context = fill("a", 4)
    queue.drop(context, lambda unit: unit in {"a0", "a2"})
    assert taken(queue, 4) == ["a1", "a3"]
    queue.drop(context, lambda _: True)


def test_units_of_one_request_are_taken_together_up_to_a_cost(queue, fill):
    fill("a", 5)
    fill("b", 5)
    assert taken(queue, 1, until_cost=2.5) == ["a0", "a1", "a2"]
    assert taken(queue, 1, until_cost=2.5) == ["b0", "b1", "b2"]


def test_what_is_put_back_goes_before_the_rest_of_its_request(queue, fill):
    context = fill("a", 5)
    queue.push(context, queue.pop(until_cost=3.0)[1:], is_first=True)
    assert queue.num_units == queue.cost == 4
    assert taken(queue, 4) == ["a1", "a2", "a3", "a4"]


def test_what_is_cheap_passes_what_is_dear_where_only_that_may_go(queue, fill):
    fill("dear", 3, cost=9.0)
    fill("cheap", 2)
    assert taken(queue, 3, most_cost=2.0) == ["cheap0", "cheap1"]
    assert queue.pop(most_cost=2.0) == []
    assert taken(queue, 3) == ["dear0", "dear1", "dear2"]


def test_what_went_before_its_turn_is_counted_all_the_same(queue, fill):
    fill("dear", 3, cost=9.0)
    fill("cheap", 20)
    assert len(taken(queue, 9, most_cost=2.0)) == 9
    assert taken(queue, 2) == ["dear0", "cheap9"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param(1.0, 2.0, id="one unit waits for one of each other request"),
        pytest.param(5.0, 8.0, id="no more than the others have"),
        pytest.param(100.0, 103.0 - 50.0 + 50.0, id="all of them at most"),
    ],
)
def test_the_cost_ahead_is_what_is_taken_before(queue, fill, own, expected):
    fill("a", 3)
    fill("b", 100)
    context = request_of()
    assert queue.cost_ahead(context, own) == expected
    fill("own", int(own), context=context)
    order = taken(queue, queue.num_units)
    ahead = order.index(f"own{int(own) - 1}") - (own - 1)
    assert abs(ahead - expected) <= 2  # a unit of each neighbour, by who came first


def test_the_cost_ahead_counts_lanes_and_tenants_by_weight(queue, fill):
    fill("batch", 1000, context=request_of(priority="batch"))
    fill("normal", 1000, context=request_of("a", weight=2.0))
    context = request_of("b", weight=1.0)
    assert queue.cost_ahead(context, 10.0) == 20.0 + 30.0 / 4.0
    assert queue.cost_ahead(request_of(priority="interactive"), 16.0) == 4.0 + 1.0


def test_the_cost_ahead_counts_what_the_request_has_queued_itself(queue, fill):
    context = fill("own", 7)
    assert queue.cost_ahead(context, 1.0) == 7.0
