"""What cannot be answered in time is refused before anything of it is decoded; what must wait stands in line."""

import asyncio
import threading
from typing import Any
from unittest.mock import Mock

import pytest

from plumbline_models.core.errors import DeadlineExceededError, OverloadedError
from plumbline_serve.batching.margin import START
from plumbline_serve.haproxy.plan import REST_PLACES
from plumbline_serve.messages import EmbedRequest, FilterRequest, Item, RawImage, ScoreRequest, Threshold, UrlImage
from plumbline_serve.requests import admission
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.scheduling.turns import FEW


def learn(pipeline, encoder, seconds: float) -> None:
    """As if every input of the encoder had taken so long so far."""
    batcher = pipeline._tools.compute._batchers[encoder.key]
    for cost in (1.0, 8.0, 4.0):
        batcher._runner.pace.learn(cost, seconds * cost)


def grey(value: int) -> RawImage:
    return RawImage(bytes([value]) * 12, 2, 2)


def score_request(*values: int, scorers: tuple[str, ...] = ("mean",), **named) -> ScoreRequest:
    return ScoreRequest([Item(str(value), grey(value), "text") for value in values], scorers=scorers, **named)


@pytest.fixture
async def busy(open_pipeline, scorers):
    """Opens pipelines whose encoder of images is busy with one image, which takes 10 s as far as it knows."""
    encoder = scorers["mean"].image
    encoder.gate = threading.Event()
    under_way = []

    async def open_one(**named):
        pipeline = await open_pipeline(**named)
        learn(pipeline, encoder, 10.0)
        under_way.append(asyncio.create_task(pipeline.score(score_request(0))))
        assert await asyncio.to_thread(encoder.entered.wait, 30)
        return pipeline

    yield open_one
    encoder.gate.set()
    await asyncio.gather(*under_way)


@pytest.mark.parametrize(
    ("max_wait_s", "timeout_ms", "reason"),
    [
        pytest.param(60.0, 15_000, "deadline", id="later than the deadline"),
        pytest.param(5.0, None, "wait", id="a longer wait than is allowed"),
    ],
)
async def test_what_cannot_be_answered_in_time_is_refused_undecoded(busy, observer, max_wait_s, timeout_ms, reason):
    pipeline = await busy(max_wait_s=max_wait_s)
    observer.stages.clear()
    with pytest.raises(OverloadedError) as refusal:
        await pipeline.score(score_request(1, timeout_ms=timeout_ms))
    facts: dict[str, Any] = refusal.value.facts
    assert facts["reason"] == reason
    assert 15_000 < facts["estimated_wait_ms"] <= 21_000
    assert 5 < refusal.value.retry_after_s <= 15
    assert observer.stages == []


async def test_a_deadline_that_leaves_time_enough_is_waited_for(busy, scorers):
    pipeline = await busy(max_wait_s=0.1)
    waiting = asyncio.create_task(pipeline.score(score_request(1, timeout_ms=60_000)))
    await asyncio.sleep(0.01)
    scorers["mean"].image.gate.set()
    assert (await waiting).results[0].scores["mean"].value == 1.0


async def test_what_was_admitted_counts_before_it_is_decoded(busy, scorers):
    pipeline = await busy(max_wait_s=25.0)
    encoder = scorers["mean"].image
    taken = [asyncio.create_task(pipeline.score(score_request(value))) for value in (1, 2)]
    await asyncio.sleep(0)  # admitted, and no further
    with pytest.raises(OverloadedError):
        await pipeline.score(score_request(3))
    encoder.gate.set()
    await asyncio.gather(*taken)
    assert pipeline._tools.compute.load(encoder.key).backlog.cost == 0


async def test_what_is_stored_or_under_way_costs_nothing(busy, scorers):
    pipeline = await busy(max_wait_s=5.0, image=2**20)
    joining = asyncio.create_task(pipeline.score(score_request(0, timeout_ms=1000)))  # the image that is computed now
    await asyncio.sleep(0.01)
    scorers["mean"].image.gate.set()
    assert (await joining).results[0].scores["mean"].value == 0.0
    learn(pipeline, scorers["mean"].image, 10.0)
    scorers["mean"].image.gate.clear()
    scorers["mean"].image.entered.clear()
    blocking = asyncio.create_task(pipeline.score(score_request(7)))
    assert await asyncio.to_thread(scorers["mean"].image.entered.wait, 30)
    assert (await pipeline.score(score_request(0, timeout_ms=1000))).results[0].scores["mean"].value == 0.0
    scorers["mean"].image.gate.set()
    await blocking


async def test_a_lone_request_is_answered_however_long_it_takes(open_pipeline, scorers):
    pipeline = await open_pipeline(max_wait_s=0.1)
    learn(pipeline, scorers["mean"].image, 100.0)
    reply = await pipeline.score(score_request(*range(10), timeout_ms=60_000))
    assert [result.scores["mean"].value for result in reply.results] == [float(value) for value in range(10)]


async def test_every_way_of_asking_is_refused_alike(busy):
    pipeline = await busy(max_wait_s=5.0)
    items = [Item("1", grey(1), "text")]
    for asking in (
        pipeline.score(ScoreRequest(items)),
        filter_items(pipeline, FilterRequest([Threshold("mean", min=0.0)], items)),
        embed(pipeline, EmbedRequest(images=[grey(1)])),
    ):
        with pytest.raises(OverloadedError):
            await asking


@pytest.fixture
async def busy_pair(open_pipeline, scorers):
    """A pipeline whose encoder of pairs is busy, and the keys of the encoders that admission has asked about."""
    pipeline = await open_pipeline(max_wait_s=5.0)
    pair = scorers["product"].pair
    pair.gate = threading.Event()
    learn(pipeline, pair, 10.0)
    under_way = asyncio.create_task(pipeline.score(score_request(1, scorers=("product",))))
    assert await asyncio.to_thread(pair.entered.wait, 30)
    compute, asked = pipeline._tools.compute, list[str]()
    load = compute.load

    def ask(key: str):
        asked.append(key)
        return load(key)

    compute.load = ask
    yield pipeline, asked
    compute.load = load
    pair.gate.set()
    await under_way


async def refused(pipeline, value: int, **named) -> dict[str, Any]:
    with pytest.raises(OverloadedError) as refusal:
        await pipeline.score(score_request(value, scorers=("product",), **named))
    return refusal.value.facts


async def test_an_encoder_that_is_needed_last_counts_as_well(busy_pair):
    pipeline, _ = busy_pair
    await refused(pipeline, 2)
    assert (await pipeline.score(score_request(2, scorers=("mean",)))).results[0].scores["mean"].value == 2.0


async def test_the_encoder_that_refused_the_last_request_alone_refuses_the_next_with_a_deadline(busy_pair, scorers):
    pipeline, asked = busy_pair
    first = await refused(pipeline, 2, timeout_ms=15_000)
    assert len(set(asked)) == 3
    asked.clear()
    second = await refused(pipeline, 3, timeout_ms=15_000)
    assert set(asked) == {scorers["product"].pair.key}
    assert second["reason"] == first["reason"] == "deadline"
    assert second["estimated_wait_ms"] == pytest.approx(first["estimated_wait_ms"], rel=0.1)


async def test_without_a_deadline_or_a_while_later_all_encoders_are_asked(busy_pair, monkeypatch):
    pipeline, asked = busy_pair
    assert (await refused(pipeline, 2))["reason"] == "wait"
    asked.clear()
    assert (await refused(pipeline, 3))["reason"] == "wait"
    assert len(set(asked)) == 3
    monkeypatch.setattr(admission, "BUSY_FOR_S", 0.0)
    asked.clear()
    await refused(pipeline, 4, timeout_ms=15_000)
    assert len(set(asked)) == 3


async def test_whoever_does_not_need_the_encoder_that_refused_is_let_in(busy_pair):
    pipeline, _ = busy_pair
    await refused(pipeline, 2, timeout_ms=15_000)
    reply = await pipeline.score(score_request(2, scorers=("mean",), timeout_ms=15_000))
    assert reply.results[0].scores["mean"].value == 2.0
    reply = await pipeline.score(score_request(1, scorers=("mean",), timeout_ms=15_000))
    assert reply.results[0].scores["mean"].value == 1.0


async def test_an_image_that_cannot_be_used_asks_nothing_of_encoders(busy):
    pipeline = await busy(max_wait_s=5.0)
    reply = await pipeline.score(ScoreRequest([Item("1", UrlImage("https://example.com"), None)], scorers=["mean"]))
    assert reply.results[0].error.code == "url_source_refused"


async def test_what_was_foreseen_to_be_late_and_had_nothing_to_wait_for_makes_no_estimate_doubtful(
    open_pipeline, scorers
):
    pipeline, encoder = await open_pipeline(max_wait_s=60.0), scorers["mean"].image
    learn(pipeline, encoder, 100.0)
    encoder.gate = threading.Event()
    for value in range(20):  # each alone, as none is let in beside another
        with pytest.raises(DeadlineExceededError):
            await pipeline.score(score_request(value, timeout_ms=5))
        encoder.gate.set()
        while pipeline._tools.compute.load(encoder.key).left_s:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
        encoder.gate.clear()
    encoder.gate.set()
    assert pipeline._tools.admission._margins["normal"].value == START


async def test_more_requests_than_haproxy_has_places_for_do_not_wait(busy, scorers, monkeypatch):
    monkeypatch.setattr(admission, "MAX_WAITING", 3)
    pipeline = await busy(max_wait_s=1000.0)
    taken = [asyncio.create_task(pipeline.score(score_request(value))) for value in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as refusal:
        await pipeline.score(score_request(3))
    facts: dict[str, Any] = refusal.value.facts
    assert facts["reason"] == "full"
    assert facts["estimated_wait_ms"] > 10_000
    scorers["mean"].image.gate.set()
    await asyncio.gather(*taken)
    assert (await pipeline.score(score_request(3))).results[0].scores["mean"].value == 3.0


def test_a_gateway_has_places_left_beside_those_that_wait():
    assert admission.MAX_WAITING < REST_PLACES


async def preprocessed(observer, num_images: int) -> None:
    """So many images are, and no more."""
    async with asyncio.timeout(30):
        while observer.stages.count("fit") < num_images:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert observer.stages.count("fit") == num_images


async def test_of_hundreds_that_wait_long_no_more_are_decoded_than_the_encoder_can_use_soon(busy, scorers, observer):
    pipeline = await busy(max_wait_s=1e6)
    observer.stages.clear()
    waiting = [asyncio.create_task(pipeline.score(score_request(value))) for value in range(1, 251)]
    await preprocessed(observer, FEW - 1)  # and the one that the encoder is busy with
    scorers["mean"].image.gate.set()
    replies = await asyncio.gather(*waiting)
    assert [reply.results[0].scores["mean"].value for reply in replies] == [float(value) for value in range(1, 251)]
    assert observer.stages.count("fit") == 250


async def test_a_small_request_begins_although_many_large_ones_stand_in_line(busy, scorers, observer):
    pipeline = await busy(max_wait_s=1e6)
    observer.stages.clear()
    large = [asyncio.create_task(pipeline.score(score_request(*range(n, n + 8)))) for n in range(1, 193, 8)]
    await preprocessed(observer, FEW)
    small = asyncio.create_task(pipeline.score(score_request(200)))
    await preprocessed(observer, FEW + 1)
    batches = scorers["mean"].image.batches
    num_batches = len(batches)
    scorers["mean"].image.gate.set()
    await asyncio.gather(small, *large)
    assert 200.0 in batches[num_batches]


async def test_callers_that_leave_their_line_are_never_decoded(busy, scorers, observer):
    pipeline = await busy(max_wait_s=1e6)
    observer.stages.clear()
    waiting = [asyncio.create_task(pipeline.score(score_request(value))) for value in range(1, 201)]
    await preprocessed(observer, FEW - 1)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    scorers["mean"].image.gate.set()
    assert (await pipeline.score(score_request(201))).results[0].scores["mean"].value == 201.0
    assert observer.stages.count("fit") == FEW


async def test_who_could_not_be_in_time_any_more_when_there_was_room_is_refused_at_once_and_counts_no_longer(
    busy, scorers, observer, monkeypatch
):
    pipeline = await busy(max_wait_s=1e6)
    observer.stages.clear()
    waiting = [asyncio.create_task(pipeline.score(score_request(value))) for value in range(1, FEW)]
    await preprocessed(observer, FEW - 1)
    compute, key = pipeline._tools.compute, scorers["mean"].image.key
    cost = compute.load(key).backlog.cost
    for name in ("check_wait", "comes_late"):  # as if estimates were too hopeful
        monkeypatch.setattr(admission, name, Mock(return_value=False))
    late = asyncio.create_task(pipeline.score(score_request(200, timeout_ms=11_000)))
    await asyncio.sleep(0.05)
    assert compute.load(key).backlog.cost == cost + 1
    with pytest.raises(OverloadedError) as refusal:  # an image takes 10 s
        await late
    assert refusal.value.facts["reason"] == "late"
    assert compute.load(key).backlog.cost == cost
    assert observer.expired_stages == ["forecast"]
    assert observer.stages.count("fit") == FEW - 1
    scorers["mean"].image.gate.set()
    await asyncio.gather(*waiting)
