"""OpenAI's embeddings: the official client, and images as vLLM, infinity and the NV-CLIP NIM take them."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest


@pytest.fixture
def client(edge: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{edge.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ours(edge: Any, **inputs: Any) -> np.ndarray:
    vectors = edge.post("/v1/embed", inputs | {"scorer": "clipscore"}).json()["vectors"]
    return np.asarray(vectors, np.float32)


def test_the_official_client_gets_our_vectors_of_texts(client: openai.OpenAI, edge: Any) -> None:
    texts = ["a red circle", "two blue squares"]
    reply = client.embeddings.create(model="clipscore", input=texts)  # asks for base64 by itself
    assert [each.index for each in reply.data] == [0, 1]
    assert np.array_equal(np.asarray([each.embedding for each in reply.data], np.float32), ours(edge, texts=texts))
    floats = client.embeddings.create(model="clipscore", input=texts[0], encoding_format="float")
    assert floats.data[0].embedding == reply.data[0].embedding
    assert floats.model == "clipscore"
    assert floats.usage.total_tokens == floats.usage.prompt_tokens == 5  # three words, and what frames them
    assert reply.usage.total_tokens == 10


def test_images_and_texts_may_be_mixed_and_keep_their_order(
    client: openai.OpenAI, edge: Any, b64: Callable[..., str]
) -> None:
    images = [b64(1), b64(2, "JPEG")]
    given = [f"data:image/png;base64,{images[0]}", "a red circle", f"data:image;base64,{images[1]}"]
    reply = client.embeddings.create(model="clipscore", input=given)
    found = np.asarray([each.embedding for each in reply.data], np.float32)
    assert np.array_equal(found[::2], ours(edge, images=[{"b64": each} for each in images]))
    assert np.array_equal(found[1:2], ours(edge, texts=["a red circle"]))
    usage = reply.usage.model_dump()
    assert usage == {"num_images": 2, "prompt_tokens": 5, "total_tokens": 5}
    alone = client.embeddings.create(model="clipscore", input=given[0]).usage.model_dump()
    assert sum(alone.values()) == 1  # NVIDIA's client adds them up


def test_a_conversation_of_one_image_is_one_vector_as_in_vllm(edge: Any, b64: Callable[..., str]) -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(3)}"}}
    body = {"model": "clipscore", "messages": [{"role": "user", "content": [part]}], "encoding_format": "float"}
    data = edge.post("/v1/embeddings", body).json()["data"]
    assert np.array_equal(np.asarray([data[0]["embedding"]], np.float32), ours(edge, images=[{"b64": b64(3)}]))
    both = body | {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "a cat"}]}]}
    assert edge.post("/v1/embeddings", both).status_code == 400


def test_the_modality_makes_every_string_an_image_as_in_infinity(edge: Any, b64: Callable[..., str]) -> None:
    body = {"model": "clipscore", "modality": "image", "input": [f"data:image/png;base64,{b64(4)}", b64(5)]}
    data = edge.post("/embeddings", body).json()["data"]
    expected = ours(edge, images=[{"b64": b64(4)}, {"b64": b64(5)}])
    assert np.array_equal(np.asarray([each["embedding"] for each in data], np.float32), expected)


def test_fewer_dimensions_are_of_unit_norm_again(client: openai.OpenAI, edge: Any) -> None:
    cut = client.embeddings.create(model="clipscore", input="a red circle", dimensions=8).data[0].embedding
    whole = ours(edge, texts=["a red circle"])[0, :8]
    assert np.allclose(cut, whole / np.linalg.norm(whole), atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="clipscore", input="a", dimensions=100_000)


def test_models_that_embed_come_first(client: openai.OpenAI) -> None:
    listed = [each.id for each in client.models.list()]
    assert listed[0] == "clipscore"
    assert set(listed) == {"clipscore", "qualiclip", "vqascore"}


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        pytest.param({"model": "no-such"}, openai.NotFoundError, "model_not_found", id="model"),
        pytest.param({"model": "qualiclip"}, openai.NotFoundError, "model_not_found", id="a model of one tower"),
        pytest.param({"input": "data:image/png;base64,AAAA"}, openai.BadRequestError, "image_undecodable", id="image"),
        pytest.param({"input": []}, openai.BadRequestError, "invalid_field", id="nothing"),
        pytest.param({"input": [1, 2, 3]}, openai.BadRequestError, "invalid_field", id="tokens"),
        pytest.param({"input": ["a"] * 9}, openai.APIStatusError, "too_many_items", id="too many"),
        pytest.param({"extra_body": {"encoding_format": "bytes"}}, openai.BadRequestError, "invalid_field", id="bytes"),
    ],
)
def test_what_is_wrong_is_a_typed_exception(
    client: openai.OpenAI, changes: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as raised:
        client.embeddings.create(**{"model": "clipscore", "input": "a"} | changes)
    assert raised.value.code == code
    assert raised.value.response.headers["x-request-id"]


def test_what_is_wrong_is_named_by_its_place_in_the_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="clipscore", input=[1, 2, 3])
    assert (raised.value.param, raised.value.body["message"].rpartition(": ")[2]) == (  # type: ignore[index]
        "input/0",
        "/input/0 must be a string.",
    )


def test_the_url_of_an_image_is_refused_where_none_are_fetched(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="clipscore", input="https://example.com/a.png", extra_body={"modality": "image"})
    assert raised.value.code == "url_source_refused"


def settle(served: Any) -> None:
    """A request is counted once its reply is out: one more, and those before are."""
    httpx.get(f"{served.url}/livez").raise_for_status()


def test_keys_are_asked_for_and_what_would_fail_again_is_sent_once(rules: Any, guarded: Any) -> None:
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as raised:
            stranger.embeddings.create(model="sum", input="a")
        assert raised.value.code == "unauthenticated"
    settle(rules)
    rules.notebook.requests.clear()
    patient = openai.OpenAI(base_url=f"{rules.url}/v1", api_key="any", max_retries=1)
    with patient, pytest.raises(openai.NotFoundError):
        patient.embeddings.create(model="sum", input="a")
    settle(rules)
    assert [code for route, _, code in rules.notebook.requests if route != "/livez"] == ["404"]
