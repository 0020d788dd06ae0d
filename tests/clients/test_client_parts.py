"""Calls of more than one request holds: sent as several, and answered as one."""

import asyncio
import inspect
import math
from array import array
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import torch

from plumbline_client import (
    AsyncClient,
    AsyncGrpcClient,
    Client,
    Combination,
    GrpcClient,
    Image,
    InvalidRequestError,
    Item,
    Rewards,
    Term,
    Threshold,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_client.calls import Bounds, Call, Core
from plumbline_client.errors import problem_error
from plumbline_client.options import Profile
from plumbline_client.parts import Parts
from plumbline_client.problems import Problem
from plumbline_client.replies import EmbedReply, FilterReply, RankReply, ScoreReply, ScorersReply
from plumbline_client.requests import EmbedRequest, FilterRequest, ListScorersRequest, RankRequest, ScoreRequest
from plumbline_serve.settings import Limits
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.clients.conftest import json_response, receive

MIB = 2**20
BAD = {"status": 422, "code": "image_undecodable", "detail": "This is no image."}
TIMING = {"decode": 1.0, "queue": 2.0, "compute": 3.0, "total": 6.0}


def call(**bounds: int) -> Call:
    return Call(Core(Profile(), bounds=Bounds(**bounds)), {})


def sent(parts: Parts[Any], answer: Any) -> list[Any]:
    """What is sent, part by part, each answered by what `answer` makes of its document."""
    documents = []
    while (request := parts.pending) is not None:
        documents.append(request.document())
        parts.answered(answer(request, documents[-1]))
    return documents


def scored(request: Any, document: Any) -> ScoreReply:
    results = [
        {"id": item.get("id", str(index)), "status": "ok", "scores": {"s": {"value": float(len(item["text"]))}}}
        for index, item in enumerate(document["items"])
    ]
    return ScoreReply.model_validate({"results": results, "request_id": "r", "timing_ms": TIMING})


def test_the_defaults_are_those_of_the_service() -> None:
    limits, bounds = Limits(), Bounds()
    assert bounds.max_items == limits.max_items
    assert limits.max_request_bytes - 2 * MIB < bounds.max_bytes < limits.max_request_bytes


def test_items_keep_their_order_and_their_ids() -> None:
    items = [Item(text="a" * n, id="mine" if n == 3 else None) for n in range(8)]
    parts = Parts(ScoreRequest(items, ["s"]), call(max_items=3))
    documents = sent(parts, scored)
    assert [len(document["items"]) for document in documents] == [3, 3, 2]
    assert all(document["scorers"] == ["s"] for document in documents)
    reply = parts.joined()
    assert [result.id for result in reply.results] == ["0", "1", "2", "mine", "4", "5", "6", "7"]
    assert [result.value("s") for result in reply.results] == list(range(8))
    assert (reply.request_id, reply.timing_ms.total) == ("r", 18.0)


def test_what_fits_is_sent_as_it_is() -> None:
    parts = Parts(ScoreRequest([Item(text="a")]), call())
    [document] = sent(parts, scored)
    assert "id" not in document["items"][0]


def test_bytes_count_an_image_once_where_items_share_it() -> None:
    shared, large = Image.data(bytes(MIB)), [Image.data(bytes(MIB)) for _ in range(3)]
    items = [Item(shared, str(n)) for n in range(5)] + [Item(image, "x") for image in large]
    documents = sent(Parts(ScoreRequest(items), call(max_bytes=2 * MIB + MIB // 2)), scored)
    assert [len(document["items"]) for document in documents] == [6, 2]
    assert [len(document.get("images", ())) for document in documents] == [1, 0]


def test_what_is_too_large_alone_is_sent_alone() -> None:
    items = [Item(Image.data(bytes(n)), "a") for n in (10, 5 * MIB, 10)]
    documents = sent(Parts(ScoreRequest(items), call(max_bytes=MIB)), scored)
    assert [len(document["items"]) for document in documents] == [1, 1, 1]


@pytest.mark.parametrize("code", ["too_many_items", "request_too_large", "http_413"])
def test_a_service_that_takes_less_is_sent_less_from_then_on(code: str) -> None:
    one = call()
    parts = Parts(ScoreRequest([Item(Image.data(bytes(1000)), "a") for _ in range(16)]), one)
    refusal = problem_error(Problem(status=413, code=code))
    sizes = []
    while (request := parts.pending) is not None:
        sizes.append(len(request.entries))
        if sizes[-1] > 4:
            assert parts.wait_after(refusal) == 0.0
        else:
            parts.answered(scored(request, request.document()))
    assert sizes[:3] == [16, 8, 4] or sizes[:4] == [16, 7, 3, 3]
    assert [result.id for result in parts.joined().results] == [str(n) for n in range(16)]
    again = Parts(ScoreRequest([Item(Image.data(bytes(1000)), "a") for _ in range(16)]), one)
    assert max(len(document["items"]) for document in sent(again, scored)) <= 4


def test_an_item_that_is_too_large_alone_is_refused() -> None:
    parts = Parts(ScoreRequest([Item(text="a")]), call())
    with pytest.raises(InvalidRequestError):
        parts.wait_after(problem_error(Problem(status=413, code="request_too_large")))


def test_an_item_that_is_too_large_fails_alone_among_others() -> None:
    sizes = [10, 1000, 10]
    parts = Parts(ScoreRequest([Item(Image.data(bytes(size)), "a") for size in sizes]), call(max_items=1))
    while (request := parts.pending) is not None:
        [item] = request.entries
        if len(item.image.content) > 100:
            assert parts.wait_after(problem_error(Problem(status=413, code="request_too_large"))) == 0.0
        else:
            parts.answered(scored(request, request.document()))
    results = parts.joined().results
    assert [(result.id, result.is_ok) for result in results] == [("0", True), ("1", False), ("2", True)]
    assert results[1].error is not None
    assert results[1].error.code == "request_too_large"


def test_verdicts_keep_their_order() -> None:
    def judged(request: Any, document: Any) -> FilterReply:
        results = [{"id": item["id"], "status": "ok", "verdict": "accept"} for item in document["items"]]
        return FilterReply.model_validate({"results": results})

    parts = Parts(FilterRequest([Item(text="a")] * 5, [Threshold("s", min=0)]), call(max_items=2))
    assert len(sent(parts, judged)) == 3
    assert [result.id for result in parts.joined().results] == list("01234")


def test_vectors_keep_their_order_and_their_cut_texts() -> None:
    def embedded(request: Any, document: Any) -> EmbedReply:
        vectors = [b64encode(array("f", [len(text)]).tobytes()).decode() for text in document["texts"]]
        return EmbedReply.model_validate({"model": "e", "dim": 1, "vectors": vectors, "truncated": [1]})

    parts = Parts(EmbedRequest(["a" * n for n in range(5)]), call(max_items=2))
    assert len(sent(parts, embedded)) == 3
    assert [vector.floats()[0] for vector in parts.joined().vectors] == [0, 1, 2, 3, 4]
    assert parts.joined().truncated == (1, 3, 5)


def test_parts_of_different_encoders_are_no_answer() -> None:
    encoders = iter("ef")

    def embedded(request: Any, document: Any) -> EmbedReply:
        return EmbedReply.model_validate({"model": next(encoders), "dim": 1, "vectors": []})

    parts = Parts(EmbedRequest(["a", "b"]), call(max_items=1))
    sent(parts, embedded)
    with pytest.raises(UnexpectedReplyError, match=r"different encoders: \('e', 1\) and \('f', 1\)"):
        parts.joined()


def ranked(values: list[float], falls: bool) -> Any:
    def answer(request: Any, document: Any) -> Any:
        if isinstance(request, ListScorersRequest):
            return ScorersReply.model_validate({"scorers": [{"id": "s", "higher_is_better": not falls}]})
        given = [values[int(text)] for text in document["texts"]]
        order = sorted(range(len(given)), key=lambda i: (given[i] if falls else -given[i], i))
        places = [{"index": i, "value": given[i], "probability": 0.5} for i in order if given[i] >= 0]
        errors = [{"index": i, "error": BAD} for i in order if given[i] < 0]
        return RankReply.model_validate({"scorer": "s", "ranking": places[: document.get("top_k")], "errors": errors})

    return answer


@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("max_items", [1, 2, 100])
def test_a_ranking_in_parts_is_that_of_the_whole(falls: bool, top_k: int | None, max_items: int) -> None:
    values = [0.25, 0.5, -1, 0.5, 0.125, 0.75, 0.25]
    request = RankRequest(Image.data(b"a"), [str(n) for n in range(7)], scorer="s", top_k=top_k)
    parts = Parts(request, call(max_items=max_items))
    sent(parts, ranked(values, falls))
    best = sorted((n for n in range(7) if n != 2), key=lambda n: (values[n] if falls else -values[n], n))[:top_k]
    assert [place.index for place in parts.joined().ranking] == best
    assert [(failed.index, failed.error.code) for failed in parts.joined().errors] == [(2, "image_undecodable")]
    assert {place.probability for place in parts.joined().ranking} == {0.5 if max_items == 100 else None}


def test_higher_is_better_of_a_combination_and_nobody_is_asked() -> None:
    request = RankRequest(Image.data(b"a"), list("012"), combine={"s": Combination("sum", [Term("t")])})
    parts = Parts(request, call(max_items=1))
    documents = sent(parts, ranked([0.1, 0.3, 0.2], falls=False))
    assert len(documents) == 3
    assert [place.index for place in parts.joined().ranking] == [1, 2, 0]


class Wire:
    """One of the four clients, awaited, and servers that give each item its text's length, or an error without one."""

    def __init__(self, kind: Any, rest_server: Any, grpc_server: Any) -> None:
        self.is_rest = kind in {Client, AsyncClient}
        self._server = rest_server if self.is_rest else grpc_server
        self.client = kind(rest_server.url if self.is_rest else grpc_server.target)
        grpc_server.handlers.append(self._over_grpc)
        rest_server.answers.append(None)
        rest_server.handle = self._over_rest if self.is_rest else rest_server.handle
        self.num_items: list[int] = []
        self.num_bytes: list[int] = []

    async def rewards(self, *arguments: Any, **named: Any) -> Rewards:
        function = self.client.rewards
        if inspect.iscoroutinefunction(function):
            return await function(*arguments, **named)
        return await asyncio.to_thread(function, *arguments, **named)

    async def close(self) -> None:
        ended = self.client.close()
        if inspect.isawaitable(ended):
            await ended

    async def _over_rest(self, request: Any) -> Any:
        arrived = await receive(request)
        self.num_items.append(len(arrived.document["items"]))
        self.num_bytes.append(int(arrived.headers["content-length"]))
        results = [self._result(item["id"], item["text"]) for item in arrived.document["items"]]
        return json_response({"results": results})

    async def _over_grpc(self, request: Any, context: Any) -> pb.ScoreReply:
        self.num_items.append(len(request.items))
        self.num_bytes.append(request.ByteSize())
        reply = pb.ScoreReply()
        for item in request.items:
            result = reply.results.add(id=item.id)
            if item.text:
                result.scores["s"].value = len(item.text)
            else:
                result.error.message = "This is no image."
        return reply

    @staticmethod
    def _result(named: str, text: str) -> dict[str, Any]:
        if not text:
            return {"id": named, "status": "error", "error": BAD}
        return {"id": named, "status": "ok", "scores": {"s": {"value": float(len(text))}}}


@pytest.fixture(params=[Client, AsyncClient, GrpcClient, AsyncGrpcClient], ids=lambda kind: kind.__name__)
async def wire(request, rest_server, grpc_server) -> AsyncIterator[Wire]:
    wire = Wire(request.param, rest_server, grpc_server)
    yield wire
    await wire.close()


async def test_128_raw_images_of_512_px_are_rewarded_over_every_wire(wire) -> None:
    images = torch.zeros(128, 512, 512, 3, dtype=torch.uint8)
    rewards = await wire.rewards(images, ["a" * (n % 7) for n in range(128)], scorer="s")
    expected = np.array([n % 7 or math.nan for n in range(128)], np.float32)
    np.testing.assert_array_equal(np.asarray(rewards), expected)
    assert np.asarray(rewards).dtype == np.float32
    assert [error is not None for error in rewards.errors] == [n % 7 == 0 for n in range(128)]
    assert {error.detail for error in rewards.errors if error} == {"This is no image."}
    assert len(wire.num_items) == 2
    assert sum(wire.num_items) == 128
    assert max(wire.num_bytes) <= 64 * MIB


async def test_no_images_have_no_rewards(wire) -> None:
    rewards = await wire.rewards([], [], scorer="s")
    assert list(rewards) == list(rewards.errors) == wire.num_items == []
    assert np.asarray(rewards).shape == (0,)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        pytest.param({"prompts": ["a", "b"], "scorer": "s"}, "1 images and 2 prompts", id="more prompts than images"),
        pytest.param({"prompts": "a"}, "scorer=", id="no scorer"),
        pytest.param({"prompts": "a", "scorer": ["s"]}, "one list", id="several scorers"),
    ],
)
def test_rewards_of_nothing_certain_are_refused(nobody: str, named: dict[str, Any], said: str) -> None:
    with Client(nobody) as client, pytest.raises(UsageError, match=said):
        client.rewards([Image.data(b"a")], **named)


def test_a_combination_is_a_reward_of_its_scorers_alone(rest_server) -> None:
    rest_server.answer({"results": [{"id": "0", "status": "ok", "scores": {"r": {"value": 0.5}, "s": {"value": 9}}}]})
    combine = {"r": Combination("sum", [Term("s", min=0, max=1)])}
    with Client(rest_server.url) as client:
        rewards = client.rewards([Image.data(b"a")], combine=combine)
    assert list(rewards) == [0.5]
    assert rest_server.arrived[0].document["scorers"] == ["s"]


def test_rewards_are_a_sequence_and_an_array() -> None:
    rewards = Rewards([0.5, math.nan, 2.0], [None, Problem(status=422), None])
    assert (len(rewards), rewards[2], list(rewards[::2])) == (3, 2.0, [0.5, 2.0])
    assert np.shares_memory(np.asarray(rewards), np.asarray(rewards))
    assert torch.tensor(rewards).dtype == torch.float32
    np.testing.assert_array_equal(torch.tensor(rewards).numpy(), np.asarray(rewards))
