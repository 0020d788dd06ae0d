"""Whose turn it is: lanes and tenants by weight, a tenant's requests by size, and what that says of the wait."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline_serve.batching.input_queue import Entry, InputQueue
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import Caller, Priority, RequestContext
from tests.serve.batching.simulation import NOBODY


def push(queue: InputQueue, context: RequestContext, num_inputs: int, bucket: int = 0, cost: float = 1.0) -> None:
    for _ in range(num_inputs):
        queue.push(Entry(None, cost, bucket, context, NOBODY, 0.0), num_inputs * cost)


def of(tenant: str = "", weight: float = 1.0, priority: Priority = "normal") -> RequestContext:
    return RequestContext(caller=Caller(tenant, weight), priority=priority)


def fill(queue: InputQueue, size: int) -> list[Entry]:
    return queue.fill(size, size, is_wanted=lambda _: True)


def order(queue: InputQueue, num_inputs: int) -> Sequence[RequestContext]:
    return [fill(queue, 1)[0].context for _ in range(num_inputs)]


def test_lanes_share_by_their_weights_while_all_have_work():
    queue = InputQueue()
    contexts = [of(priority=priority) for priority in ("batch", "normal", "interactive")]
    for context in contexts:
        push(queue, context, 500)
    served = Counter(context.priority for context in order(queue, 210))
    assert served == {"interactive": 160, "normal": 40, "batch": 10}


def test_tenants_share_by_the_weights_of_their_keys_however_many_requests_they_have():
    queue = InputQueue()
    for _ in range(30):
        push(queue, of("many"), 10)
    push(queue, of("heavy", weight=3.0), 300)
    served = Counter(context.caller.tenant for context in order(queue, 200))
    assert served == {"heavy": 150, "many": 50}


def test_a_tenant_that_comes_later_has_no_claim_to_what_others_had_before():
    queue = InputQueue()
    push(queue, of("early"), 500)
    order(queue, 200)
    push(queue, of("late"), 100)
    assert Counter(context.caller.tenant for context in order(queue, 100)) == {"early": 50, "late": 50}


def test_equal_requests_keep_their_order_and_a_small_one_passes_a_large_one():
    queue = InputQueue()
    first, second, small = of(), of(), of()
    push(queue, first, 4)
    push(queue, second, 4)
    push(queue, small, 1)
    assert order(queue, 9) == [small] + [first] * 4 + [second] * 4


def test_a_large_request_moves_up_while_small_ones_go_on_coming():
    queue = InputQueue()
    large = of()
    push(queue, large, 20)
    served: list[RequestContext] = []
    for _ in range(100):
        push(queue, of(), 1)
        served += order(queue, 1)
    assert served.count(large) == 20


def test_a_batch_has_one_bucket_and_that_of_the_input_whose_turn_it_is():
    queue = InputQueue()
    large, small = of(), of()
    push(queue, large, 8, bucket=1)
    push(queue, small, 1, bucket=2)
    assert [(entry.bucket, entry.context) for entry in fill(queue, 4)] == [(2, small)]
    assert {entry.bucket for entry in fill(queue, 4)} == {1}


def test_an_input_that_is_too_large_for_the_rest_of_a_batch_waits_for_the_next():
    queue = InputQueue()
    context = of()
    for cost in (3.0, 3.0, 9.0):
        push(queue, context, 1, cost=cost)
    assert [[entry.cost for entry in queue.fill(5.0, 9, is_wanted=lambda _: True)] for _ in range(3)] == [
        [3.0],
        [3.0],
        [9.0],
    ]


def test_what_is_taken_out_counts_nowhere():
    queue = InputQueue()
    kept, gone = of("a"), of("b", priority="batch")
    push(queue, kept, 3, cost=0.1)
    push(queue, gone, 3, bucket=1, cost=0.7)
    assert all(queue.discard(entry) for entry in queue.entries() if entry.context is gone)
    assert (queue.num_items, queue.num_in("batch"), queue.num_in("normal")) == (3, 0, 3)
    assert queue.backlog.cost == pytest.approx(0.3)
    fill(queue, 3)
    assert (queue.backlog.cost, queue.first(), queue.num_items) == (0, None, 0)


def test_what_is_announced_keeps_its_place_and_is_counted_once():
    queue = InputQueue()
    early, late = of(), of()
    queue.announce(early, 4.0)
    push(queue, late, 4)
    push(queue, early, 3)
    assert queue.backlog.cost == 8.0
    assert order(queue, 3) == [early] * 3
    queue.forget(early)
    assert queue.backlog.cost == 4.0


REQUESTS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from(["a", "b"]), st.sampled_from(["interactive", "normal", "batch"])),
    max_size=12,
)


@settings(deadline=None)
@given(
    waiting=REQUESTS, new=st.tuples(st.integers(1, 40), st.sampled_from("abc"), st.sampled_from(["normal", "batch"]))
)
def test_a_request_is_done_no_later_than_foreseen_where_nothing_else_comes(waiting, new):
    queue = InputQueue()
    for num_inputs, tenant, priority in waiting:
        push(queue, of(tenant, priority=priority), num_inputs)
    num_inputs, tenant, priority = new
    context = of(tenant, priority=priority)
    foreseen = queue.backlog.until(context, num_inputs, is_new=True)
    push(queue, context, num_inputs)
    served = order(queue, queue.num_items)
    done_after = len(served) - served[::-1].index(context)
    slack = 2 + 16 / 1  # an input for each tenant, and the lanes' turns
    assert done_after <= foreseen + slack


def due(at_s: float) -> RequestContext:
    return RequestContext(Deadline(at_s))


@pytest.mark.parametrize(
    ("deadlines", "size"),
    [
        pytest.param([math.inf] * 6, 6, id="none"),
        pytest.param([3.0] * 6, 3, id="all alike"),
        pytest.param([9.0, 9.0, 4.0, 9.0, 9.0, 9.0], 4, id="one in the middle"),
        pytest.param([9.0, 9.0, 9.0, 2.0, 9.0, 9.0], 3, id="one that would be late with those before it"),
        pytest.param([0.5, 9.0, 9.0, 9.0, 9.0, 9.0], 6, id="one that is late in any batch bounds none"),
    ],
)
def test_a_batch_ends_where_one_of_its_inputs_would_be_late(deadlines, size):
    queue = InputQueue()
    for at_s in deadlines:
        push(queue, due(at_s), 1)
    assert len(queue.fill(9.0, 9, is_wanted=lambda _: True, fits=lambda cost, at_s: cost <= at_s)) == size
