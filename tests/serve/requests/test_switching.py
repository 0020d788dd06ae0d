"""A service that goes on with another configuration: requests under way are answered, by whichever can answer them."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import PlumblineError, SupersededError
from plumbline_serve.drift import DriftMonitor, Reference, Slices
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreReply, ScoreRequest
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.calibrating import Calibrations
from plumbline_serve.requests.classifying import Classifiers
from plumbline_serve.requests.guarding import Guards
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.reference_sets import ReferenceSets
from plumbline_serve.requests.service import CoreService
from plumbline_serve.requests.watching import References
from plumbline_serve.store import Store

KEPT = Store(SecretStr("sqlite:////nowhere/store.db")), Bindings()


class Replaced:
    """What an encoder does whose replicas run another configuration by now."""

    def __init__(self) -> None:
        self.was_called = threading.Event()

    def __call__(self, batch: list[float]) -> list[float | PlumblineError]:
        self.was_called.set()
        return [SupersededError("Gone.") for _ in batch]


def service_over(pipeline: Pipeline) -> CoreService:
    async def no_metrics() -> bytes:
        return b""

    async def nothing() -> dict[str, Reference]:
        return {}

    async def nothing_counted() -> dict[str, Slices]:
        return {}

    service = CoreService(
        pipeline,
        pipeline._tools.compute,
        exposition=no_metrics,
        calibrations=Calibrations(*KEPT),
        classifiers=Classifiers(*KEPT),
        references=References(*KEPT, Classifiers(*KEPT)),
        reference_sets=ReferenceSets(*KEPT),
        guards=Guards(*KEPT),
        monitor=DriftMonitor(nothing, nothing_counted, window_s=60.0),
    )
    service.is_loaded = True
    return service


def request(png: Callable[..., bytes], timeout_ms: float | None = None) -> ScoreRequest:
    return ScoreRequest([Item("a", EncodedImage(png(50)), None)], scorers=["mean"], timeout_ms=timeout_ms)


def value_of(reply: ScoreReply) -> float:
    (result,) = reply.results
    assert isinstance(result, ItemScores)
    score = result.scores["mean"]
    assert not isinstance(score, PlumblineError)
    return score.value


async def test_a_request_whose_encoders_are_gone_is_made_again_under_the_next_configuration(
    open_pipeline, scorers, png
):
    before, after = await open_pipeline(), await open_pipeline()
    service, encoder = service_over(before), scorers["mean"].image
    usual, encoder.encode = encoder.encode, Replaced()
    reply = asyncio.create_task(service.score(request(png)))
    assert await asyncio.to_thread(encoder.encode.was_called.wait, 30)
    encoder.encode = usual
    service.switch(after, after._tools.compute)
    assert value_of(await reply) == 50


async def test_a_request_that_nothing_follows_is_refused_at_its_deadline(open_pipeline, scorers, png):
    service = service_over(await open_pipeline())
    scorers["mean"].image.encode = Replaced()
    with pytest.raises(SupersededError):
        await service.score(request(png, 200.0))


async def test_what_is_under_way_in_the_configuration_before_is_answered_and_waited_for(
    open_pipeline, make_encoder, scorers, png
):
    before, after = await open_pipeline(), await open_pipeline()
    service, encoder = service_over(before), scorers["mean"].image
    encoder.gate = threading.Event()
    reply = asyncio.create_task(service.score(request(png)))
    assert await asyncio.to_thread(encoder.entered.wait, 30)
    former = service.switch(after, after._tools.compute)
    assert await former.until_idle(0.0) == 1
    draining = asyncio.create_task(service.drain(30.0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not draining.done()
    encoder.gate.set()
    assert value_of(await reply) == 50
    assert await draining == 0
