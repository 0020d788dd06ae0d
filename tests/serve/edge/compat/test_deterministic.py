"""`deterministic`, as each format says it: the core is asked for what our own requests ask for."""

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

IMAGE = "data:image,AAA"  # the rules read no more of it than its letters
BODIES: Mapping[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "openai": ("/v1/embeddings", lambda _: {"input": ["a", IMAGE]}),
    "texts for a text": ("/rerank", lambda _: {"query": "a", "documents": ["b"]}),
    "images for a text": ("/rerank", lambda _: {"query": "a", "documents": [IMAGE]}),
    "TEI": ("/rerank", lambda _: {"query": "a", "texts": ["b"]}),
    "Flow-Factory": ("/compute", lambda image: {"prompt": ["a"], "image": [image]}),
    "UniRL": (
        "/score",
        lambda image: {"requests": [{"history": [{"text": "a", "image_b64": image}], "required_rewards": ["sum"]}]},
    ),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("is_asked", [True, False])
def test_a_body_in_json_may_ask_for_it(towers: Any, b64: Callable[..., str], name: str, *, is_asked: bool) -> None:
    path, body = BODIES[name]
    reply = towers.post(path, body(b64(1)) | ({"deterministic": True} if is_asked else {}))
    assert reply.status_code == 200, reply.text
    assert {each.deterministic for each in towers.service.received} == {is_asked}


def test_what_is_neither_true_nor_false_is_refused(towers: Any) -> None:
    reply = towers.post("/v1/embeddings", {"input": "a", "deterministic": "yes"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "deterministic")


@pytest.mark.parametrize("metadata", [{}, {"metadata": [{}]}], ids=["flow_grpo", "verl-omni"])
def test_a_pickle_may_ask_for_it(towers: Any, image: Callable[..., bytes], metadata: dict[str, Any]) -> None:
    body = {"images": [image(1)], "prompts": ["a"], "deterministic": True, **metadata}
    reply = towers.http.post("/", content=pickle.dumps(body, protocol=4))
    assert reply.status_code == 200
    assert towers.service.received[0].deterministic is True
    assert towers.http.post("/", content=pickle.dumps({**body, "deterministic": 1}, protocol=4)).status_code == 422


def test_a_parameter_of_open_inference_asks_for_it(towers: Any, b64: Callable[..., str]) -> None:
    inputs = [
        {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [b64(1)]},
        {"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]
    path, body = "/v2/models/sum/infer", {"inputs": inputs, "parameters": {"deterministic": True}}
    reply = towers.post(path, body)
    assert reply.status_code == 200, reply.text
    assert towers.service.received[0].deterministic is True
    assert towers.post(path, body | {"parameters": {"deterministic": 1}}).status_code == 400


def test_a_parameter_of_open_inference_over_grpc_asks_for_it(towers: Any, image: Callable[..., bytes]) -> None:
    with tritonclient.grpc.InferenceServerClient(towers.target) as client:
        given = []
        for name, value in (("IMAGE", image(1)), ("TEXT", b"a")):
            given.append(tritonclient.grpc.InferInput(name, [1], "BYTES"))
            given[-1].set_data_from_numpy(np.array([value], dtype=np.object_))
        client.infer("sum", given, parameters={"deterministic": True})
    assert towers.service.received[0].deterministic is True
