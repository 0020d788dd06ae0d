"""The pickled `POST` of flow_grpo, verl-omni and deepgen_rl: images in, a score for each out, both as pickles.

`unpickler` reads the request. A body with `metadata` is verl-omni's or deepgen's, which unpickle errors and try again
what is above 499; without it flow_grpo's, which unpickles any status but 413, 429, 500 and 503 as if it were an answer,
and so ends the training. flow_grpo tries a 500 again for 33 hours: what fails inside the service is 502 to it.
"""

import asyncio
import pickle  # nosec B403  # answers are written by it; nothing is read by it
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import (
    CapacityError,
    DeadlineExceededError,
    MalformedRequestError,
    NoItemsError,
    PlumblineError,
    TooManyItemsError,
)
from plumbline_serve.edge.compat import geneval
from plumbline_serve.edge.compat.core import Asking, Core, all_or_nothing, field_fault
from plumbline_serve.edge.compat.rewards import BASE, RETRY_AFTER_S, named_scorer, refuse_with, scores_of
from plumbline_serve.edge.compat.unpickler import FIRST_BYTE, read_pickle
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.messages import EncodedImage, ScorerEntry
from plumbline_serve.scheduling.concurrency import named_threads

CLIENT_WAITS_S = 110.0
"""flow_grpo and verl-omni wait for 120 s."""
PICKLE = "application/octet-stream"
_PROTOCOL = 4
_OPCODES, _OPCODES_EACH = 64, 64
"""That a request may have, and may have for each item: an image has two, what metadata says of it some dozens."""
_FIELDS = frozenset({"images", "prompts", "metadata", "deterministic"})
_FIELDS_OF_GENEVAL = frozenset({"images", "deterministic"}) | geneval.FIELDS
_UNAVAILABLE, _INTERNAL, _BAD_GATEWAY = 503, 500, 502
_reading = named_threads(1, "pickle")


@dataclass(frozen=True, slots=True)
class _Batch:
    images: Sequence[EncodedImage]
    prompts: Sequence[str] | None
    is_deterministic: bool


def routes(core: Core) -> list[AddedRoute]:
    """The root, and a base path that names the scorer."""

    async def score(request: Request) -> Response:
        async with core.asked(request, waits_s=CLIENT_WAITS_S) as asking:
            document = await _read(asking)
            if geneval.METADATA in document:
                return _pickled(await _geneval(asking, document, named_scorer(request)))
            batch = _batch(core, document, _FIELDS)
            given = ("image",) if batch.prompts is None else ("image", "text")
            scorer = await core.scorer(named_scorer(request), given=given)
            values = all_or_nothing(await _scores(asking, scorer, batch, batch.prompts))
            return _pickled({"outputs": values, "scores": values})

    return [AddedRoute("POST", path, score, refuse) for path in ("/", BASE, f"{BASE}/")]


def refuse(error: PlumblineError, request_id: str) -> Response:
    """An error that flow_grpo tries again, with a pause, where that helps, and else stops at.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    reply = refuse_with("error", error, request_id)
    if isinstance(error, DeadlineExceededError):
        reply.status_code = _UNAVAILABLE
        reply.headers["retry-after"] = str(round(RETRY_AFTER_S))
    elif error.status == _INTERNAL:
        reply.status_code = _BAD_GATEWAY
    return reply


def refuse_pickled(error: PlumblineError, request_id: str) -> Response:
    """An error as verl-omni and deepgen unpickle it.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    status = _UNAVAILABLE if isinstance(error, CapacityError | DeadlineExceededError) else error.status
    headers = {name: value for name, value in http_headers(error).items() if name == "retry-after"}
    sentence = f"{error.code}: {problem(error, request_id)['detail']}"
    return _pickled({"error": sentence}, status, headers)


def _pickled(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = pickle.dumps(dict(document), protocol=_PROTOCOL)
    return Response(content, status_code=status, headers={"content-type": PICKLE, **(headers or {})})


async def _read(asking: Asking) -> dict[str, Any]:
    """The request's dict; what fails from here on is written as its client reads it."""
    body = asking.body
    if body[:1] != FIRST_BYTE:
        raise MalformedRequestError("The body is no pickle of protocol 4 or 5.")
    max_opcodes = _OPCODES + _OPCODES_EACH * asking.core.limits.max_items
    loop = asyncio.get_running_loop()
    document = await loop.run_in_executor(_reading, lambda: read_pickle(body, max_opcodes=max_opcodes))
    asking.let_go()
    if not isinstance(document, dict):
        raise MalformedRequestError("The pickle holds no dict.")
    if "metadata" in document:
        asking.refuse_with(refuse_pickled)
    return document


async def _geneval(asking: Asking, document: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    batch, metadata = _batch(asking.core, document, _FIELDS_OF_GENEVAL), document[geneval.METADATA]
    prompts = geneval.prompts_of(metadata)
    scorer = await geneval.scorer_of(asking.core, name)
    return geneval.lists_of(all_or_nothing(await _scores(asking, scorer, batch, prompts)), metadata)


async def _scores(
    asking: Asking, scorer: ScorerEntry, batch: _Batch, prompts: Sequence[str] | None
) -> list[float | PlumblineError]:
    return await scores_of(asking, scorer, batch.images, prompts, is_deterministic=batch.is_deterministic)


def _batch(core: Core, document: Mapping[str, Any], fields: frozenset[str]) -> _Batch:
    if unknown := sorted(document.keys() - fields):
        raise field_fault(f"/{unknown[0][:64]}", "is not scored here; only images and prompts are")
    images, prompts = document.get("images"), document.get("prompts")
    if not isinstance(images, list | tuple) or not all(isinstance(each, bytes) for each in images):
        raise field_fault("/images", "must be a list of the bytes of image files")
    if not images:
        raise NoItemsError("The request has no images.")
    if len(images) > core.limits.max_items:
        raise TooManyItemsError(f"The request has {len(images)} images; at most {core.limits.max_items} are allowed.")
    if prompts is not None and not (
        isinstance(prompts, list | tuple) and all(isinstance(each, str) for each in prompts)
    ):
        raise field_fault("/prompts", "must be a list of texts")
    if not isinstance(is_deterministic := document.get("deterministic", False), bool):
        raise field_fault("/deterministic", "must be true or false")
    return _Batch([EncodedImage(each) for each in images], prompts, is_deterministic)
