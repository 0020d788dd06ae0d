"""Rerank as Cohere, TEI, vLLM and infinity ask for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

TEXT = "a red circle"
PATHS = ["/v1/rerank", "/v2/rerank", "/rerank"]


def data_url(b64: str) -> str:
    return f"data:image/png;base64,{b64}"


@pytest.mark.parametrize("path", PATHS)
def test_images_are_ordered_for_a_text(edge: Any, b64: Callable[..., str], path: str) -> None:
    images = [b64(each) for each in (1, 2, 3)]
    body = {"model": "clipscore", "query": TEXT, "documents": [data_url(each) for each in images], "top_n": 2}
    results = edge.post(path, body).json()["results"]
    ranked = edge.post(
        "/v1/rank", {"text": TEXT, "images": [{"b64": each} for each in images], "scorer": "clipscore", "top_k": 2}
    ).json()["ranking"]
    assert results == [{"index": each["index"], "relevance_score": each["value"]} for each in ranked]


def test_texts_are_ordered_for_an_image_in_parts_as_vllm_sends_them(edge: Any, b64: Callable[..., str]) -> None:
    query = {"content": [{"type": "image_url", "image_url": {"url": data_url(b64(1))}}]}
    texts = ["a cat", TEXT, "a house"]
    documents = [texts[0], {"content": [{"type": "text", "text": texts[1]}]}, {"text": texts[2]}]
    body = {"query": query, "documents": documents, "model": "vqascore", "return_documents": True}
    results = edge.post("/rerank", body).json()["results"]
    ranked = edge.post("/v1/rank", {"image": {"b64": b64(1)}, "texts": texts, "scorer": "vqascore"}).json()["ranking"]
    assert [each["index"] for each in results] == [each["index"] for each in ranked]
    echoed = {each["index"]: each["document"] for each in results}
    assert echoed[0] == {"text": "a cat"}
    assert echoed[1]["multi_modal"] == documents[1]["content"]  # type: ignore[index]


def test_texts_are_ordered_for_a_text_by_the_cosine_of_the_text_tower(edge: Any) -> None:
    texts = ["two blue squares", TEXT, "a red ring"]
    body = {"model": "clipscore", "query": TEXT, "documents": texts, "top_n": 2}
    found = edge.post("/v2/rerank", body).json()
    vectors = np.asarray(edge.post("/v1/embed", {"texts": texts, "scorer": "clipscore"}).json()["vectors"])
    cosines = vectors @ vectors[1]
    assert [each["index"] for each in found["results"]] == np.argsort(-cosines)[:2].tolist()
    assert [each["relevance_score"] for each in found["results"]] == pytest.approx(sorted(-cosines)[:2] * np.array(-1))
    assert found["meta"]["conventions"]["relevance_score"] == "cosine of two texts"
    assert found["usage"]["total_tokens"] == edge.post("/v1/embed", {"texts": [TEXT, *texts]}).json()["num_tokens"]
    assert found["meta"]["conventions"]["encoder"].endswith("/text")
    array = edge.post("/rerank", {"query": TEXT, "texts": texts}).json()
    assert [each["index"] for each in array][:2] == [each["index"] for each in found["results"]]


def test_query_and_documents_are_embedded_side_by_side(towers: Any) -> None:
    query = "raise overloaded"
    assert towers.post("/rerank", {"query": query, "documents": ["a", "b"]}).status_code == 429
    assert [list(each.texts) for each in towers.service.received] == [[query], ["a", "b"]]


def test_tei_gets_an_array(edge: Any, b64: Callable[..., str]) -> None:
    body = {"query": data_url(b64(1)), "texts": ["a cat", TEXT], "return_text": True, "truncate": True}
    found = edge.post("/rerank", body).json()
    assert sorted(each["index"] for each in found) == [0, 1]
    assert found == sorted(found, key=lambda each: -each["score"])
    assert {each["index"]: each["text"] for each in found} == {0: "a cat", 1: TEXT}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param({"query": TEXT, "documents": ["a", "data:image"]}, 422, "invalid_field", id="of both kinds"),
        pytest.param({"query": "data:image", "documents": ["data:image"]}, 422, "invalid_field", id="two images"),
        pytest.param(
            {"query": TEXT, "documents": ["a", "b"], "model": "vqascore"}, 422, "unknown_scorer", id="no text tower"
        ),
        pytest.param({"query": TEXT, "documents": ["a", "b" * 201]}, 413, "text_too_long", id="a long text"),
        pytest.param({"query": "q" * 201, "documents": ["a", "b"]}, 413, "text_too_long", id="a long query"),
        pytest.param({"query": TEXT, "documents": []}, 422, "no_items", id="nothing"),
        pytest.param({"query": TEXT}, 422, "invalid_field", id="no documents"),
        pytest.param({"query": TEXT, "documents": ["data:image;base64,AAAA"]}, 422, "image_undecodable", id="image"),
        pytest.param({"query": TEXT, "documents": ["data:image"] * 9}, 413, "too_many_items", id="many"),
        pytest.param(
            {"query": TEXT, "documents": ["data:image"], "model": "no-such"}, 422, "unknown_scorer", id="model"
        ),
        pytest.param(
            {"query": TEXT, "documents": {"content": [{"type": "text", "text": "a"}] * 2}}, 422, "invalid_field",
            id="parts that older vLLM took for documents",
        ),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_ranked_fails_whole(edge: Any, body: dict[str, Any], status: int, code: str) -> None:
    reply = edge.post("/v2/rerank", body)
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == code
    assert reply.json()["message"] == reply.json()["error"]["message"]


def test_errors_of_tei_are_strings_with_their_kind(edge: Any, rules: Any) -> None:
    wrong = edge.post("/rerank", {"query": TEXT, "texts": ["a", "data:image"]})
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "Validation")
    empty = edge.post("/rerank", {"query": TEXT, "texts": []})
    assert (empty.status_code, empty.json()["error_type"]) == (400, "Empty")
    late = rules.post("/rerank", {"query": "data:image/png;base64,AAAA", "texts": ["raise overloaded"]})
    assert (late.status_code, late.json()["error_type"], late.headers["retry-after"]) == (429, "Overloaded", "2")
    assert isinstance(late.json()["error"], str)
