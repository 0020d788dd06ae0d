"""What deterministic requests count as: each of their inputs takes a batch of its own."""

from dataclasses import replace

import pytest

from plumbline_serve.batching import Backlog, EncoderLoad
from plumbline_serve.batching.cores import SHORT_S
from plumbline_serve.batching.pace import Line
from plumbline_serve.scheduling.request_context import RequestContext

TOGETHER, ALONE = RequestContext(), RequestContext(is_deterministic=True)


def load(fixed_s: float, num_streams: int = 1) -> EncoderLoad:
    """Of an encoder that takes so long for a batch, and 1 s for each unit of up to 8."""
    return EncoderLoad(
        line=Line(fixed_s, 1.0),
        max_batch=8.0,
        num_streams=num_streams,
        left_s=0.0,
        input_cost=1.0,
        arrival_rates={},
        backlog=Backlog(),
    )


def test_inputs_that_go_alone_take_as_many_batches() -> None:
    assert load(fixed_s=4.0).forecast(TOGETHER, 8).own_s == 4.0 + 8.0
    assert load(fixed_s=4.0).forecast(ALONE, 8).own_s == 8 * (4.0 + 1.0)
    assert load(fixed_s=4.0, num_streams=2).forecast(ALONE, 8).own_s == 8 * (4.0 + 1.0) / 2
    assert load(fixed_s=4.0, num_streams=2).forecast(ALONE, 1).own_s == 4.0 + 1.0


@pytest.mark.parametrize("cost", [0.5, 1.0, 3.0])
def test_an_input_that_goes_alone_counts_as_the_part_of_a_full_batch_that_its_time_is(cost: float) -> None:
    busy = load(fixed_s=4.0)
    assert busy.charge(TOGETHER, cost) == cost
    assert busy.charge(ALONE, cost) / 8 == pytest.approx((4.0 + cost) / (4.0 + 8.0))


def test_an_input_counts_as_itself_where_batches_gain_nothing_or_nothing_is_known() -> None:
    assert load(fixed_s=0.0).charge(ALONE, 3.0) == 3.0
    unknown = EncoderLoad(Line(), 8.0, 1, left_s=0.0, input_cost=1.0, arrival_rates={}, backlog=Backlog())
    assert unknown.charge(ALONE, 3.0) == 3.0


def test_what_waits_to_go_alone_is_waited_for_accordingly() -> None:
    busy = load(fixed_s=4.0)
    busy.backlog.change(ALONE, 0, cost=6 * busy.charge(ALONE, 1.0), num=1)
    assert busy.drain_s == pytest.approx(6 * (4.0 + 1.0), rel=0.2)  # in full batches, the last one as a whole


def test_each_long_batch_waits_for_its_turn_at_the_cores() -> None:
    alone, busy = load(fixed_s=4.0), load(fixed_s=4.0)
    alone.backlog.change(TOGETHER, 3, cost=24.0, num=1)
    busy.backlog.change(TOGETHER, 3, cost=24.0, num=1)
    busy.turn_s = 5.0
    assert busy.drain_s == alone.drain_s + 3 * 5.0
    idle = load(fixed_s=4.0)
    idle.turn_s = 5.0
    assert idle.forecast(TOGETHER, 8).done_s == idle.forecast(TOGETHER, 8).own_s + 5.0


def test_a_short_batch_waits_for_no_turn() -> None:
    quick = replace(load(fixed_s=0.0), line=Line(SHORT_S / 2, 0.0), turn_s=5.0)
    assert quick.forecast(TOGETHER, 8).done_s == SHORT_S / 2
