"""OpenAI's `POST /v1/embeddings`, with images as vLLM, infinity and the NV-CLIP NIM take them.

A string that begins `data:image` is an image, others are texts unless `modality` says `image`; they may be mixed. One
image that cannot be read fails the request, for a vector has no place for an error.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import EngineError, NotReadyError, PlumblineError, UnknownScorerError
from plumbline_serve.edge.compat.core import (
    Asking,
    Body,
    Core,
    RequestBody,
    field_fault,
    image_of,
    is_data_image,
    json_reply,
    of_item,
)
from plumbline_serve.edge.compat.parts import Content, Part, part_of
from plumbline_serve.edge.compat.rewards import RETRY_AFTER_S
from plumbline_serve.edge.faults import read_as
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.edge.rest.replies import base64_of
from plumbline_serve.messages import EmbedReply, EmbedRequest, ScorerEntry

_UNPROCESSABLE, _BAD_REQUEST, _NOT_FOUND = 422, 400, 404


class _Message(Body):
    content: str | Sequence[Part]


class _Embeddings(RequestBody):
    model: str | None = None
    input: (
        Annotated[Sequence[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] | None
    ) = None
    messages: Sequence[_Message] | None = None
    modality: Literal["text", "image"] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    embed_dtype: Literal["float32"] = "float32"
    endianness: Literal["native", "little"] = "native"


def routes(core: Core) -> list[AddedRoute]:
    """`/v1/embeddings`, `/embeddings` as infinity has it, and NV-CLIP's probe."""

    async def embeddings(request: Request) -> Response:
        async with core.asked(request) as asking:
            body = read_as(await asking.document("input"), _Embeddings)
            contents = _contents(body)
            model = await core.embedder(body.model)
            embedded = await _embed(asking, contents, model, is_deterministic=body.deterministic)
            return json_reply(_document(embedded, body, model, num_images=_num_images(contents)))

    async def ready(request: Request) -> Response:
        del request
        if not core.service.is_ready:
            raise NotReadyError("The service takes no work now.", retry_after_s=RETRY_AFTER_S)
        return json_reply({"object": "health.response", "message": "ready"})

    return [
        AddedRoute("POST", "/v1/embeddings", embeddings, refuse),
        AddedRoute("POST", "/embeddings", embeddings, refuse),
        AddedRoute("GET", "/v1/health/ready", ready, refuse, is_open=True),
    ]


def refuse(error: PlumblineError, request_id: str) -> Response:
    """An error as OpenAI's clients read it: they retry 408, 409, 429 and what is above 499.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    status = _BAD_REQUEST if error.status == _UNPROCESSABLE else error.status
    code, found = error.code, problem(error, request_id)
    if isinstance(error, UnknownScorerError):
        status, code = _NOT_FOUND, "model_not_found"
    kind = "invalid_request_error" if status < PlumblineError.status else "server_error"
    faults = found.get("errors") or [{"pointer": ""}]
    body = {
        "message": found["detail"],
        "type": kind,
        "param": faults[0]["pointer"].removeprefix("/") or None,
        "code": code,
    }
    headers = {name: value for name, value in http_headers(error).items() if name != "content-type"}
    return json_reply({"error": body}, status, **headers)


def _contents(body: _Embeddings) -> list[Content]:
    if (body.input is None) == (body.messages is None):
        raise field_fault("/input", "or messages must be given, and not both")
    if body.messages is not None:
        parts = [each.content for each in body.messages]
        if len(parts) != 1:
            raise field_fault("/messages", "must be one: a conversation is one text or one image")
        return [parts[0]] if isinstance(parts[0], str) else [part_of(parts[0], "/messages/0/content")]
    given = list(body.input or ())
    if not given:
        raise field_fault("/input", "must not be empty")
    if body.modality == "image":
        return [image_of(each) for each in given]
    return [image_of(each) if is_data_image(each) and body.modality is None else each for each in given]


def _num_images(contents: Sequence[Content]) -> int:
    return sum(not isinstance(each, str) for each in contents)


@dataclass(frozen=True, slots=True)
class _Embedded:
    vectors: Sequence[NDArray[np.float32]]
    """In the order of the contents."""
    num_tokens: int
    """Of all texts."""


async def _embed(
    asking: Asking, contents: Sequence[Content], model: ScorerEntry, *, is_deterministic: bool
) -> _Embedded:
    """Images and texts are two requests to the core, side by side."""
    texts = {index: each for index, each in enumerate(contents) if isinstance(each, str)}
    images = {index: each for index, each in enumerate(contents) if not isinstance(each, str)}
    given = [each for each in (texts, images) if each]
    claims: dict[str, Any] = {"scorer": model.id, "deterministic": is_deterministic}
    messages = [EmbedRequest(texts=list(texts.values()), **claims)] if texts else []
    messages += [EmbedRequest(images=list(images.values()), **claims)] if images else []
    replies = await asking.embed(*messages)
    found: dict[int, NDArray[np.float32]] = {}
    for part, reply in zip(given, replies, strict=True):
        found |= _placed(part, reply)
    return _Embedded([found[index] for index in range(len(contents))], sum(each.num_tokens for each in replies))


def _placed(given: Mapping[int, Any], reply: EmbedReply) -> dict[int, NDArray[np.float32]]:
    """The vectors by the place of what they embed."""
    placed: dict[int, NDArray[np.float32]] = {}
    for index, vector in zip(given, reply.vectors, strict=True):
        if isinstance(vector, PlumblineError):
            raise of_item(vector, index)
        if not np.isfinite(vector).all():
            raise of_item(EngineError("The encoder gave no numbers.", encoder=reply.encoder), index)
        placed[index] = vector
    return placed


def _shortened(vector: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first numbers of a vector, of unit norm again; 0: all of them, as infinity has it."""
    if not dimensions:
        return vector
    if not 0 < dimensions <= vector.size:
        raise field_fault("/dimensions", f"must be at least 1 and at most {vector.size}")
    cut = vector[:dimensions]
    length = np.linalg.norm(cut)
    return np.asarray(cut / length, np.float32) if length > 0 else cut


def _document(embedded: _Embedded, body: _Embeddings, model: ScorerEntry, *, num_images: int) -> dict[str, Any]:
    """The reply; its tokens are those that the text tower reads, and an image has none."""
    vectors = [_shortened(each, body.dimensions) for each in embedded.vectors]

    def written(vector: NDArray[np.float32]) -> Any:
        if body.encoding_format == "float":
            return vector.tolist()
        return base64_of(vector)

    data = [{"object": "embedding", "index": i, "embedding": written(each)} for i, each in enumerate(vectors)]
    usage = {"prompt_tokens": embedded.num_tokens, "total_tokens": embedded.num_tokens, "num_images": num_images}
    created = int(time.time())
    return {"object": "list", "data": data, "model": body.model or model.id, "usage": usage, "created": created}
