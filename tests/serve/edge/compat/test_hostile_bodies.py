"""Whatever a body holds, each format refuses it in its own form: nothing of it is a fault of ours."""

import json
import pickle
import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest

PATHS = ["/v1/embeddings", "/v2/rerank", "/rerank", "/compute", "/score", "/v2/models/clipscore/infer", "/"]
VALUES: list[Any] = [
    None, True, -1, 1e308, 2**70, "", "a", "data:image", "data:image/png;base64,", "http://a", "\ud800", [], {}, [[]],
    [None], [{}], [""], ["a"] * 3, {"content": []}, {"content": "a"}, {"content": [{"type": "text"}]}, [1, "a"],
]  # fmt: skip
FIELDS = [
    "input", "messages", "model", "modality", "dimensions", "encoding_format", "query", "documents", "texts", "top_n",
    "prompt", "image", "video", "requests", "history", "required_rewards", "text", "image_b64", "inputs", "outputs",
    "parameters", "id", "name", "datatype", "shape", "data", "content", "role", "type", "image_url", "url",
]  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "clipscore", "input": ["a", "b"]},
    "/v2/rerank": {"query": "a", "documents": ["data:image/png;base64,AAAA"]},
    "/rerank": {"query": "data:image/png;base64,AAAA", "texts": ["a"]},
    "/compute": {"prompt": ["a"], "image": ["AAAA"]},
    "/score": {"requests": [{"history": [{"text": "a", "image_b64": "AAAA"}], "required_rewards": ["clipscore"]}]},
    "/v2/models/clipscore/infer": {
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} for name in ("IMAGE", "TEXT")]
    },
}


def changed(value: Any, draw: random.Random) -> Any:
    """A document with some of its members changed, taken away or added."""
    if draw.random() < 0.12:
        return draw.choice(VALUES)
    if isinstance(value, dict):
        kept = {name: changed(each, draw) for name, each in value.items() if draw.random() > 0.08}
        return kept | ({draw.choice(FIELDS): draw.choice(VALUES)} if draw.random() < 0.3 else {})
    if isinstance(value, list):
        return [changed(each, draw) for each in value for _ in range(draw.choice([1, 1, 1, 2]))]
    return value


@pytest.mark.parametrize("path", BODIES)
def test_changed_documents_are_answered_or_refused(edge: Any, path: str) -> None:
    draw = random.Random(path)  # noqa: S311 - not for secrets
    for _ in range(80):
        body = json.dumps(changed(BODIES[path], draw)).encode()
        reply = edge.http.post(path, content=body)
        assert reply.status_code < 500, (body, reply.text)
        assert isinstance(reply.json(), dict | list)


@pytest.mark.parametrize("name", ["timeout", "priority"])
def test_a_parameter_that_is_larger_than_any_number_of_its_kind_is_refused(edge: Any, name: str) -> None:
    body = BODIES["/v2/models/clipscore/infer"] | {"parameters": {name: 10**400}}
    reply = edge.http.post("/v2/models/clipscore/infer", content=json.dumps(body))
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_field")


HALF = "\ud800"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/clipscore/infer", BODIES["/v2/models/clipscore/infer"] | {"id": HALF}),
        ("/v2/rerank", BODIES["/v2/rerank"] | {"model": HALF}),
        ("/rerank", {"query": "data:image/png;base64,AAAA", "texts": [HALF], "return_text": True}),
        ("/v1/embeddings", {"input": [HALF, "a"], "model": HALF}),
        ("/score", {"requests": [{"history": [{"text": HALF}], "required_rewards": [HALF]}]}),
        ("/compute", {"prompt": [HALF], "image": [HALF]}),
    ],
)
def test_half_of_a_surrogate_pair_is_no_fault_of_ours(edge: Any, path: str, body: dict[str, Any]) -> None:
    reply = edge.http.post(path, content=json.dumps(body).encode())
    assert reply.status_code < 500, reply.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"a"', b"{}" * 2, b'{"input": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe", b"[" * 500],
    ids=["empty", "begun", "null", "list", "text", "two", "NaN", "twice", "UTF-16", "deep"],
)
def test_what_is_no_document_is_refused(edge: Any, path: str, body: bytes) -> None:
    reply = edge.http.post(path, content=body)
    assert reply.status_code < 500, reply.text
    assert "error" in reply.json() or "detail" in reply.json()


def test_changed_pickles_are_answered_or_refused(edge: Any, image: Callable[..., bytes]) -> None:
    draw = random.Random(3)  # noqa: S311 - not for secrets
    whole = pickle.dumps({"images": [image(1), b"x"], "prompts": ["a", "b"], "metadata": {}}, 4)
    for _ in range(150):
        body = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            body[draw.choice([draw.randrange(len(body)), draw.randrange(12), -draw.randint(1, 60)])] = draw.randrange(
                256
            )
        reply = edge.http.post("/", content=bytes(body))
        assert reply.status_code < 500, reply.content


def test_bytes_that_are_no_message_are_refused(edge: Any) -> None:
    infer = edge.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    draw = random.Random(4)  # noqa: S311 - not for secrets
    for size in (0, 1, 7, 100, 3000):
        with pytest.raises(grpc.RpcError) as raised:
            infer(draw.randbytes(size))
        assert raised.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
