"""Rerank as Cohere, TEI, vLLM and infinity have it: images for a text, or texts for either, the best first.

A body with `texts` is TEI's, which gets an array; one with `documents` is of the others, which get an object. A
document that cannot be scored fails the request. Relevance is the scorer's own value: `vqascore`'s is within 0 and 1.
Texts for a text are compared by no scorer: their relevance is the cosine of what a text tower makes of both.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import CapacityError, EngineError, NoItemsError, PlumblineError
from plumbline_serve.edge.compat.core import Asking, Body, Core, RequestBody, field_fault, json_reply, of_item
from plumbline_serve.edge.compat.parts import Content, Contents, as_sent, content_of
from plumbline_serve.edge.faults import read_as
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.messages import EmbedRequest, ImageSource, Ranked, RankRequest

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")
_TEI_TYPES: Mapping[int, str] = {400: "Validation", 413: "Validation", 422: "Validation", 429: "Overloaded"}
_EMPTY, _BACKEND, _UNHEALTHY, _INTERNAL = 400, 424, 503, 500


class _TeiBody(RequestBody):
    query: str
    texts: Sequence[str]
    return_text: bool = False


class _Text(Body):
    text: str


class _RerankBody(RequestBody):
    query: str | Contents
    documents: Sequence[str | Contents | _Text] | Contents
    model: str | None = None
    top_n: int | None = None
    return_documents: bool = False


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Documents in order, and what their values are where they are no scorer's."""

    places: Sequence[Ranked]
    conventions: Mapping[str, str] | None = None
    num_tokens: int = 0
    """That a text tower read of query and documents, where it alone compared them."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request says beside its query and its documents."""

    model: str | None
    top_n: int | None
    """None: all."""
    deterministic: bool

    def request(self, images: Sequence[ImageSource], texts: Sequence[str]) -> RankRequest:
        """One of an image and texts, or of a text and images."""
        return RankRequest(
            images=images, texts=texts, scorer=self.model, top_k=self.top_n, deterministic=self.deterministic
        )


def routes(core: Core) -> list[AddedRoute]:
    """`rerank` under the paths of all four."""

    async def rerank(request: Request) -> Response:
        async with core.asked(request) as asking:
            document = await asking.document("texts", "documents")
            if "texts" in document:
                asking.refuse_with(refuse_tei)
                return json_reply(await _tei(asking, read_as(document, _TeiBody)))
            return json_reply(await _objects(asking, read_as(document, _RerankBody)))

    return [AddedRoute("POST", path, rerank, refuse) for path in PATHS]


def refuse(error: PlumblineError, request_id: str) -> Response:
    """An error as the clients of Cohere (`message`) and of vLLM and infinity (`error`) read it.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    found = problem(error, request_id)
    detail = found["detail"]
    body = {"message": detail, "error": {"message": detail, "type": error.code, "param": None, "code": error.status}}
    return json_reply(body, error.status, **_headers(error))


def refuse_tei(error: PlumblineError, request_id: str) -> Response:
    """An error as TEI has it.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    status = _BACKEND if error.status == _INTERNAL else error.status
    kind = "Unhealthy" if status == _UNHEALTHY else _TEI_TYPES.get(status, "Backend")
    if isinstance(error, NoItemsError):
        status, kind = _EMPTY, "Empty"
    body = {"error": problem(error, request_id)["detail"], "error_type": kind}
    return json_reply(body, status, **_headers(error))


def _headers(error: PlumblineError) -> dict[str, str]:
    return {"retry-after": http_headers(error)["retry-after"]} if isinstance(error, CapacityError) else {}


async def _tei(asking: Asking, body: _TeiBody) -> list[dict[str, Any]]:
    documents = [content_of(text, f"/texts/{index}") for index, text in enumerate(body.texts)]
    wanted = _Wanted(None, None, body.deterministic)
    ranking = await _ranking(asking, content_of(body.query, "/query"), documents, wanted)
    found: list[dict[str, Any]] = [{"index": place.index, "score": place.value} for place in ranking.places]
    for place in found if body.return_text else ():
        place["text"] = body.texts[place["index"]]
    return found


async def _objects(asking: Asking, body: _RerankBody) -> dict[str, Any]:
    given = _listed(body.documents)
    documents = [_document(each, f"/documents/{index}") for index, each in enumerate(given)]
    if body.top_n is not None and body.top_n < 0:
        raise field_fault("/top_n", "must be at least 1, or 0 for all")
    query = content_of(body.query, "/query")
    ranking = await _ranking(asking, query, documents, _Wanted(body.model, body.top_n or None, body.deterministic))
    results: list[dict[str, Any]] = [{"index": place.index, "relevance_score": place.value} for place in ranking.places]
    for result in results if body.return_documents else ():
        result["document"] = _echo(given[result["index"]])
    usage = {"total_tokens": ranking.num_tokens, "prompt_tokens": ranking.num_tokens}
    meta: dict[str, Any] = {"api_version": {"version": "2"}}
    if ranking.conventions is not None:
        meta["conventions"] = ranking.conventions
    name = f"rerank-{uuid.uuid4().hex}"
    return {"id": name, "object": "rerank", "model": body.model, "results": results, "usage": usage, "meta": meta}


def _listed(documents: Sequence[str | Contents | _Text] | Contents) -> Sequence[str | Contents | _Text]:
    """The documents; what stands alone is one of one part, which older vLLM took for as many as it has parts."""
    if not isinstance(documents, Contents):
        return documents
    if not isinstance(documents.content, str) and len(documents.content) > 1:
        raise field_fault("/documents", "must be an array, where there is more than one")
    return [documents]


def _document(given: str | Contents | _Text, pointer: str) -> Content:
    return content_of(given.text if isinstance(given, _Text) else given, pointer)


def _echo(given: str | Contents | _Text) -> dict[str, Any]:
    if isinstance(given, Contents):
        return {"text": None, "multi_modal": as_sent(given)["content"]}
    return {"text": given if isinstance(given, str) else given.text}


async def _ranking(asking: Asking, query: Content, documents: Sequence[Content], wanted: _Wanted) -> _Ranking:
    """The documents by the query.

    Raises:
        InvalidFieldError: They are images for an image, or of both kinds.
        PlumblineError: One of them cannot be scored.
    """
    texts = [each for each in documents if isinstance(each, str)]
    images = [each for each in documents if not isinstance(each, str)]
    if isinstance(query, str):
        if texts and images:
            raise field_fault("/documents", "must be all images or all texts: the two are not comparable")
        if texts:
            return await _by_cosine(asking, query, texts, wanted)
        message = wanted.request(images, [query])
    else:
        if images:
            raise field_fault("/documents", "must be texts, for the query is an image: scorers compare the two")
        message = wanted.request([query], texts)
    reply = await asking.rank(message)
    for index, error in sorted(reply.errors.items()):
        raise of_item(error, index)
    return _Ranking(reply.ranking)


async def _by_cosine(asking: Asking, query: str, texts: Sequence[str], wanted: _Wanted) -> _Ranking:
    """Texts by the cosine of their vectors and the query's, ties by place."""
    embedder = await asking.core.embedder(wanted.model)
    given: tuple[Sequence[str], ...] = ([query], texts)  # two requests, for the query is no document more
    messages = (EmbedRequest(texts=each, scorer=embedder.id, deterministic=wanted.deterministic) for each in given)
    asked, found = await asking.embed(*messages)
    (whole,) = asked.vectors
    if isinstance(whole, PlumblineError):
        raise type(whole)(f"The query: {whole.detail}", **whole.facts)
    ranked: list[Ranked] = []
    for index, vector in enumerate(found.vectors):
        if isinstance(vector, PlumblineError):
            raise of_item(vector, index)
        cosine = float(np.dot(np.asarray(vector, np.float64), np.asarray(whole, np.float64)))
        if not math.isfinite(cosine):
            raise of_item(EngineError("The encoder gave no numbers.", encoder=found.encoder), index)
        ranked.append(Ranked(index, cosine))
    ranked.sort(key=lambda each: (-each.value, each.index))
    places = ranked[: wanted.top_n]
    if (decimals := asking.core.score_decimals) is not None:
        places = [replace(each, value=round(each.value, decimals)) for each in places]
    conventions = {"relevance_score": "cosine of two texts", "encoder": found.encoder}
    return _Ranking(places, conventions, asked.num_tokens + found.num_tokens)
