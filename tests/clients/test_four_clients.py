"""What the four clients share: the same methods, and the same answers from either protocol."""

import asyncio
import inspect
from array import array
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2
from pydantic import BaseModel

from plumbline_client import (
    AsyncClient,
    AsyncGrpcClient,
    CapacityError,
    Client,
    GrpcClient,
    Image,
    InvalidRequestError,
    Item,
    Threshold,
)
from plumbline_wire.v1 import scoring_pb2 as pb

THIRD = 1 / 3  # has no short decimal form
TINY = 5e-324  # the least double
VECTOR = array("f", [0.6, -0.8])
ITEMS = [Item(Image.data(b"a"), "a red fox", id="1"), Item(Image.data(b"b"), "a red fox")]
METHODS = ["score", "filter", "rank", "select", "embed", "scorers", "models", "ready"]

FAULT = {
    "type": "t/image-undecodable",
    "title": "Undecodable image",
    "status": 422,
    "detail": "This is no image.",
    "code": "image_undecodable",
}
_STATUS = status_pb2.Status(code=3, message="This is no image.")
_STATUS.details.add().Pack(
    error_details_pb2.ErrorInfo(
        reason="IMAGE_UNDECODABLE",
        domain="plumbline",
        metadata={"status": "422", "title": "Undecodable image", "type": "t/image-undecodable"},
    )
)
_DETAILS = struct_pb2.Struct()
_DETAILS.update({"spread": THIRD, "parts": ["sky", {"depth": 2.0}]})
_TIMING = {"decode": 0.25, "queue": THIRD, "compute": 9.0, "total": 10.0}
HEAD = {"request_id": "r", "timing_ms": _TIMING}
PB_HEAD: dict[str, Any] = {"request_id": "r", "timing_ms": pb.Timing(**_TIMING)}
WORDS: list[dict[str, Any]] = [{"text": "red", "start": 2, "end": 5, "attribution": TINY, "misaligned": True}]
ASKED: dict[str, Any] = {"mean": THIRD, "min": 0.0, "failed": [1], "rates": {"colour": 0.5}}
ASKED |= {"answers": [{"p_yes": THIRD, "p_no": TINY, "score": THIRD}, {"p_yes": 0.9, "p_no": 0.0, "score": 0.0}]}

SCORE = HEAD | {
    "results": [
        {
            "id": "1",
            "status": "ok",
            "scores": {
                "clipscore": {"value": 2.5 * THIRD, "cosine": THIRD},
                "fclipscore": {"value": -THIRD, "cosine": THIRD, "words": WORDS, "truncated": True},
                "qualiclip": {"error": FAULT},
                "zoom": {"value": 0.0, "spread": THIRD, "parts": ["sky", {"depth": 2.0}]},
                "questions": {"value": THIRD, **ASKED},
            },
        },
        {"id": "1", "status": "error", "error": FAULT},
    ]
}
PB_SCORE = pb.ScoreReply(
    results=[
        pb.ItemResult(
            id="1",
            scores={
                "clipscore": pb.ScoreValue(value=2.5 * THIRD, cosine=THIRD),
                "fclipscore": pb.ScoreValue(value=-THIRD, cosine=THIRD, words=[pb.Word(**WORDS[0])], truncated=True),
                "qualiclip": pb.ScoreValue(error=_STATUS),
                "zoom": pb.ScoreValue(details=_DETAILS),
                "questions": pb.ScoreValue(value=THIRD, **ASKED),
            },
        ),
        pb.ItemResult(id="1", error=_STATUS),
    ],
    **PB_HEAD,
)
FILTER = HEAD | {
    "results": [
        {"id": "1", "status": "ok", "verdict": "accept", "failed": [], "scores": {"q": {"value": 0.5}}},
        {"id": "2", "status": "ok", "verdict": "reject", "failed": ["q"], "scores": {"q": {"value": 0.25}}}
        | {"reasons": {"q": "few"}},
        {"id": "3", "status": "error", "error": FAULT},
    ]
}
PB_FILTER = pb.FilterReply(
    results=[
        pb.ItemVerdict(id="1", verdict=pb.VERDICT_ACCEPT, scores={"q": pb.ScoreValue(value=0.5)}),
        pb.ItemVerdict(
            id="2",
            verdict=pb.VERDICT_REJECT,
            failed=["q"],
            scores={"q": pb.ScoreValue(value=0.25)},
            reasons={"q": "few"},
        ),
        pb.ItemVerdict(id="3", error=_STATUS),
    ],
    **PB_HEAD,
)
RANK = HEAD | {
    "scorer": "vqascore",
    "ranking": [{"index": 2, "value": THIRD, "truncated": True, "probability": TINY}, {"index": 0, "value": 0.0}],
    "errors": [{"index": 1, "error": FAULT}],
}
PB_RANK = pb.RankReply(
    scorer="vqascore",
    ranking=[pb.Ranked(index=2, value=THIRD, truncated=True, probability=TINY), pb.Ranked(index=0)],
    errors=[pb.IndexedError(index=1, error=_STATUS)],
    **PB_HEAD,
)
EMBED = HEAD | {"model": "clip/text", "dim": 2, "vectors": [b64encode(VECTOR.tobytes()).decode(), {"error": FAULT}]}
EMBED |= {"truncated": [0]}
PB_EMBED = pb.EmbedReply(
    encoder="clip/text",
    dim=2,
    vectors=[pb.Embedding(float32_le=VECTOR.tobytes()), pb.Embedding(error=_STATUS)],
    truncated=[0],
    **PB_HEAD,
)
_SCORER: dict[str, Any] = {
    "id": "fclipscore",
    "summary": "s",
    "low": None,
    "high": 0.0,
    "higher_is_better": False,
    "needs_text": False,
    "needs": ["image"],
    "encoders": ["clip/image"],
    "licence": "MIT",
    "conventions": {"epsilon": "-5e-05"},
    "context_length": 77,
    "demo": True,
    "precision": "fp32",
    "backend": "torch",
    "paper": "arXiv:1",
}
_ENCODER: dict[str, Any] = {
    "key": "clip/image",
    "kind": "image",
    "arch": "ViT",
    "source": "embedded",
    "licence": "MIT",
    "licence_class": "permissive",
    "sha256": "00",
    "dim": 0,
    "backend": "torch",
    "precision": "fp32",
    "device": "cpu",
    "notes": {"a": "b"},
    "demo": True,
}
PB_SCORERS = pb.ListScorersReply(scorers=[pb.ScorerEntry(**{k: v for k, v in _SCORER.items() if v is not None})])


class Anyone:
    """One of the four clients, every method awaited; and the two servers answering alike."""

    def __init__(self, client: Any, rest_server: Any, grpc_server: Any) -> None:
        self._client = client
        self._rest = rest_server
        self._grpc = grpc_server

    def answer(self, document: Any, message: Any) -> None:
        self._rest.answer(document)
        self._grpc.answer(message)

    async def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        function = getattr(self._client, method)
        if inspect.iscoroutinefunction(function):
            return await function(*arguments, **named)
        return await asyncio.to_thread(function, *arguments, **named)


@pytest.fixture(params=[Client, AsyncClient, GrpcClient, AsyncGrpcClient], ids=lambda kind: kind.__name__)
async def anyone(request, rest_server, grpc_server) -> AsyncIterator[Anyone]:
    kind = request.param
    client = kind(rest_server.url if kind in {Client, AsyncClient} else grpc_server.target)
    yield Anyone(client, rest_server, grpc_server)
    await Anyone(client, rest_server, grpc_server).ask("close")


async def test_scores_are_bit_for_bit_those_that_were_sent(anyone) -> None:
    anyone.answer(SCORE, PB_SCORE)
    response = await anyone.ask("score", ITEMS)
    good, bad = response.results
    assert good.is_ok
    assert {scorer: good.scores[scorer].value for scorer in good.scores} == {
        "clipscore": 2.5 * THIRD,
        "fclipscore": -THIRD,
        "qualiclip": None,
        "zoom": 0.0,
        "questions": THIRD,
    }
    asked = good.scores["questions"]
    assert asked.model_dump(include=ASKED.keys()) == ASKED | {"failed": (1,), "answers": tuple(ASKED["answers"])}
    assert good.scores["zoom"].mean is good.scores["zoom"].min is None
    assert good.value("clipscore") == 2.5 * THIRD
    assert good.scores["clipscore"].cosine == THIRD
    assert [word.model_dump() for word in good.scores["fclipscore"].words] == WORDS
    assert [good.scores[scorer].truncated for scorer in ("clipscore", "fclipscore")] == [False, True]
    assert good.scores["zoom"].cosine is None
    assert good.scores["zoom"].model_extra == {"spread": THIRD, "parts": ["sky", {"depth": 2.0}]}
    assert good.scores["qualiclip"].error.code == "image_undecodable"
    assert not bad.is_ok
    assert bad.error.model_dump(exclude_defaults=True) == FAULT
    assert response.request_id == "r"
    assert response.timing_ms.queue == THIRD


async def test_a_value_that_is_missing_is_raised(anyone) -> None:
    anyone.answer(SCORE, PB_SCORE)
    good, bad = (await anyone.ask("score", ITEMS)).results
    for result, scorer in ((good, "qualiclip"), (bad, "clipscore")):
        with pytest.raises(InvalidRequestError, match="no image"):
            result.value(scorer)
    with pytest.raises(KeyError, match=r"no score 'other' of the item '1': it has clipscore, .* says what each needs"):
        good.value("other")
    with pytest.raises(KeyError, match="did you mean 'clipscore'"):
        good.value("clip_score")


async def test_an_item_that_was_not_judged_is_not_accepted(anyone) -> None:
    anyone.answer(FILTER, PB_FILTER)
    response = await anyone.ask("filter", ITEMS, [Threshold("q", min=0.3, min_words=2)])
    assert [result.verdict for result in response.results] == ["accept", "reject", None]
    assert [result.is_accepted for result in response.results] == [True, False, False]
    assert [result.failed for result in response.results] == [(), ("q",), ()]
    assert [result.reasons for result in response.results] == [{}, {"q": "few"}, {}]
    assert response.results[1].value("q") == 0.25
    with pytest.raises(KeyError, match="explain=True"):
        response.results[1].value("r")
    assert response.results[2].error.code == "image_undecodable"


async def test_a_ranking_keeps_its_order(anyone) -> None:
    anyone.answer(RANK, PB_RANK)
    response = await anyone.ask("rank", "a fox", [Image.data(b"a")] * 3)
    assert response.scorer == "vqascore"
    first, second = (tuple(place.model_dump().values()) for place in response.ranking)
    assert (first, second) == ((2, THIRD, True, TINY), (0, 0.0, False, None))
    assert [(failure.index, failure.error.status) for failure in response.errors] == [(1, 422)]


async def test_vectors_are_bit_for_bit_those_that_were_sent(anyone) -> None:
    anyone.answer(EMBED, PB_EMBED)
    response = await anyone.ask("embed", ["a", "b"])
    good, bad = response.vectors
    assert (response.encoder, response.dim, response.truncated) == ("clip/text", 2, (0,))
    assert good.floats() == VECTOR
    with pytest.raises(InvalidRequestError):
        bad.floats()


async def test_lists_say_what_is_false_and_what_is_open(anyone) -> None:
    anyone.answer({"scorers": [_SCORER]}, PB_SCORERS)
    (scorer,) = await anyone.ask("scorers")
    assert scorer.model_dump() == _SCORER | {"encoders": ("clip/image",), "needs": ("image",)}


async def test_encoders_are_listed(anyone) -> None:
    anyone.answer({"models": [_ENCODER]}, pb.ListModelsReply(models=[pb.EncoderEntry(**_ENCODER)]))
    (encoder,) = await anyone.ask("models")
    assert encoder.model_dump() == _ENCODER


async def test_nothing_loaded_is_an_empty_list(anyone) -> None:
    anyone.answer({"scorers": []}, pb.ListScorersReply())
    assert await anyone.ask("scorers") == ()


async def test_a_loaded_service_is_ready(anyone) -> None:
    anyone.answer({"status": "ready"}, None)
    assert await anyone.ask("ready") is True


async def test_both_protocols_give_equal_answers(rest_server, grpc_server) -> None:
    rest_server.answer(SCORE)
    grpc_server.answer(PB_SCORE)
    async with AsyncClient(rest_server.url) as rest, AsyncGrpcClient(grpc_server.target) as over_grpc:
        first, second = await asyncio.gather(rest.score(ITEMS), over_grpc.score(ITEMS))
    assert isinstance(first, BaseModel)
    assert first == second


async def test_asyncio_clients_wait_between_attempts(rest_server, grpc_server) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    rest_server.answer({"status": 503, "code": "draining"}, 503, {"retry-after": "9"})
    async with AsyncClient(rest_server.url, sleep=sleep) as client:
        with pytest.raises(CapacityError):
            await client.score(ITEMS, timeout_ms=None)
    assert len(rest_server.arrived) == 4
    assert len(waited) == 3
    assert min(waited) >= 9


@pytest.mark.parametrize("method", METHODS)
def test_blocking_and_asyncio_methods_take_the_same(method: str) -> None:
    def parameters(kind: type) -> list[str]:
        return [str(each) for each in inspect.signature(getattr(kind, method)).parameters.values()]

    assert parameters(AsyncClient) == parameters(Client)
    assert parameters(AsyncGrpcClient) == parameters(GrpcClient)
