"""What a request shares while it runs, and what it does not keep from others."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_models.core.protocols import Score
from plumbline_serve.messages import EmbedRequest, Item, RawImage, ScoreRequest
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.scheduling.request_context import RequestContext


class Interrupted(float):
    """Seconds that let another thread run after the sum so far was read and before the new one is stored."""

    run: Callable[[], None]

    def __new__(cls, value, run):
        self = super().__new__(cls, value)
        self.run = run
        return self

    def __radd__(self, so_far):
        self.run()
        return so_far + float(self)


@pytest.mark.parametrize(("stage", "kept_as"), [("decode", "decode"), ("fit", "preprocess")])
async def test_no_seconds_are_lost_where_threads_spend_at_once(open_pipeline, observer, stage, kept_as):
    spoken: list[float] = []
    observer.stage = lambda _, seconds: spoken.append(float(seconds))
    session = RequestSession((await open_pipeline())._tools, RequestContext(), observer)
    other = threading.Thread(target=session._spend, args=(stage, 2.0))

    def run_other() -> None:
        other.start()
        other.join(timeout=0.2)  # it cannot end where it has to wait for its turn

    session._spend(stage, Interrupted(1.0, run_other))
    other.join()
    assert getattr(session.stage_seconds, kept_as) == 3.0
    assert sorted(spoken) == [1.0, 2.0]


class Hesitant:
    """Preprocesses texts as another encoder does, but not before it is let."""

    def __init__(self, encoder) -> None:
        self._preprocess = encoder.preprocess
        self.preprocessed: list[str] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        encoder.preprocess = self.preprocess

    def preprocess(self, raw):
        self.preprocessed.append(raw)
        self.entered.set()
        assert self.gate.wait(timeout=30)
        return self._preprocess(raw)


async def test_a_small_request_does_not_wait_until_a_large_one_is_tokenised(open_pipeline, scorers):
    pipeline, texts = await open_pipeline(), Hesitant(scorers["product"].text)
    large = asyncio.create_task(embed(pipeline, EmbedRequest(texts=[f"large {i}" for i in range(10)])))
    await asyncio.to_thread(texts.entered.wait, 30)
    small = asyncio.create_task(embed(pipeline, EmbedRequest(texts=["small"])))
    await asyncio.sleep(0.01)  # more than one piece may take: the gate opens behind the large one's first text
    texts.gate.set()
    assert (await small).vectors[0] == 1.0  # of unit length
    assert list((await large).vectors) == [1.0] * 10
    assert texts.preprocessed[:2] == ["large 0", "small"]


async def test_nothing_is_tokenised_for_a_request_whose_time_is_up(open_pipeline, scorers):
    pipeline, texts = await open_pipeline(), Hesitant(scorers["product"].text)
    with pytest.raises(DeadlineExceededError):
        await embed(pipeline, EmbedRequest(texts=["a", "bb", "ccc"], timeout_ms=30))
    texts.gate.set()
    await embed(pipeline, EmbedRequest(texts=["another"]))
    assert texts.preprocessed == ["a", "another", "another"]  # the second time to count its tokens


async def test_texts_are_tokenised_while_another_request_is_scored(open_pipeline, scorers):
    entered, gate = threading.Event(), threading.Event()

    def score(batch):
        entered.set()
        assert gate.wait(timeout=30)
        return [Score(float(mean)) for mean in batch.images]

    scorers["mean"].score = score
    pipeline = await open_pipeline()
    scoring = asyncio.create_task(pipeline.score(ScoreRequest([Item("1", RawImage(bytes(12), 2, 2), None)])))
    await asyncio.to_thread(entered.wait, 30)
    assert (await embed(pipeline, EmbedRequest(texts=["abc"]))).vectors[0] == 1.0
    gate.set()
    assert (await scoring).results[0].scores["mean"].value == 0.0


async def test_a_request_that_joined_another_s_work_says_how_long_it_waited(open_pipeline, scorers):
    pipeline, encoder = await open_pipeline(), scorers["mean"].image
    encoder.gate = threading.Event()
    request = ScoreRequest([Item("1", RawImage(bytes(12), 2, 2), "abc")], scorers=["mean"])
    first = asyncio.create_task(pipeline.score(request))
    await asyncio.to_thread(encoder.entered.wait, 30)
    second = asyncio.create_task(pipeline.score(request))
    await asyncio.sleep(0.1)
    encoder.gate.set()
    await first
    timing = (await second).timing_ms
    assert 50 <= timing.queue <= timing.total  # milliseconds
    assert timing.decode == timing.compute == 0
