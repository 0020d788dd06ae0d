"""What the formats share: a body within the limits, our core asked for it, and its values or what is wrong with one."""

import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import (
    EngineError,
    InvalidFieldError,
    PlumblineError,
    UnknownScorerError,
)
from plumbline_serve.edge.access import num_items_of
from plumbline_serve.edge.caller_timeout import CallerTimeout, with_remaining_time
from plumbline_serve.edge.problems import report_items
from plumbline_serve.edge.rest.body import JSON, read_bytes
from plumbline_serve.edge.rest.exchange import Held, received, unless_gone
from plumbline_serve.edge.rest.json_document import read_json
from plumbline_serve.edge.rest.middleware import Refusal, call_of
from plumbline_serve.edge.rules import check_counts
from plumbline_serve.memory.bytes_in_flight import BytesInFlight, Share
from plumbline_serve.messages import (
    Base64Image,
    EmbedReply,
    EmbedRequest,
    ImageSource,
    ItemFailure,
    ItemResult,
    RankReply,
    RankRequest,
    Reply,
    ScorerEntry,
    ScoreReply,
    ScoreRequest,
    UrlImage,
)
from plumbline_serve.messages import Request as Message
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.scheduling.concurrency import together
from plumbline_serve.scheduling.request_context import Caller
from plumbline_serve.settings import Limits, Settings

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Reply)
S = TypeVar("S", bound="Body")
ValueOrError: TypeAlias = float | PlumblineError
ReadBody: TypeAlias = Callable[[Request, Limits, Share], Awaitable[bytearray]]


class Body(BaseModel):
    """A body of a format; fields that we do not know are passed over, as the services that speak it do."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class RequestBody(Body):
    """A whole body in JSON, with what of our own requests it may say besides."""

    deterministic: bool = False
    """As in our own requests."""


@dataclass(slots=True)
class Asking:
    """One request of a caller, as the formats see it."""

    request: Request
    body: bytearray
    core: "Core"
    timeout: CallerTimeout
    _num_spent: int = field(default=1, init=False)

    def refuse_with(self, refusal: Refusal) -> None:
        """Write what fails from here on in another way: the body has told which protocol the caller speaks."""
        call_of(self.request).refusal = refusal

    def let_go(self) -> None:
        """Give back the body's memory, now that what it held is read; its share of the budget stays held."""
        with suppress(BufferError):  # something still looks at it
            self.body.clear()

    async def document(self, *counted: str) -> dict[str, Any]:
        """The body as a JSON object.

        Args:
            counted: Members of which there may be as many as items of a request.

        Raises:
            MalformedRequestError: It is not JSON.
            InvalidFieldError: It is no object.
            TooManyItemsError: A member holds more than allowed.
        """
        document = await read_json(self.body, self.core.limits)
        self.let_go()
        if not isinstance(document, dict):
            raise InvalidFieldError("The request's JSON must be an object.")
        check_counts(self.core.limits, *(document.get(name) for name in counted))
        return document

    async def score(self, message: ScoreRequest) -> ScoreReply:
        """As `Service.score`, as the caller may; every value is finite."""
        return await self._answer(message, self.core.service.score)

    async def rank(self, message: RankRequest) -> RankReply:
        """As `Service.rank`; see `score`."""
        return await self._answer(message, self.core.service.rank)

    async def embed(self, *messages: EmbedRequest) -> list[EmbedReply]:
        """As `Service.embed`, each message beside the others; see `score`."""
        for message in messages:
            await self._count(message)
        caller, embed = call_of(self.request).grant.caller, self.core.service.embed
        work = together([embed(with_remaining_time(each, self.timeout), caller) for each in messages])
        replies = await unless_gone(self.request, work)
        for reply in replies:
            report_items(reply, call_of(self.request).request_id)
        return replies

    async def _answer(self, message: M, ask: Callable[[M, Caller], Coroutine[Any, Any, R]]) -> R:
        await self._count(message)
        call = call_of(self.request)
        # No function within this one: its frame would hold the message for as long as an error is held.
        reply = await unless_gone(self.request, ask(with_remaining_time(message, self.timeout), call.grant.caller))
        report_items(reply, call.request_id)
        return reply

    async def _count(self, message: Message) -> None:
        call = call_of(self.request)
        call.noted.num_items = (call.noted.num_items or 0) + num_items_of(message)
        await call.grant.spend_on(message, num_counted=self._num_spent)
        self._num_spent = 0


class Core:
    """What answers, and within which limits.

    Args:
        service: What replies.
        settings: The limits, the scale of rewards, and how much of scores is shown.
        bytes_in_flight: The budget of all requests.
    """

    def __init__(self, service: Service, settings: Settings, bytes_in_flight: BytesInFlight) -> None:
        self.service = service
        self.limits = settings.limits
        self.score_decimals = settings.privacy.score_decimals
        self._bytes = bytes_in_flight
        self._divisors: Mapping[str, float] = settings.edge.reward_divisors

    def asked(self, request: Request, *, waits_s: float = math.inf, read: ReadBody = read_bytes) -> Held[Asking]:
        """A caller's request with its body, which is in flight until the reply is made.

        Args:
            request: The caller's.
            waits_s: How long the request may wait where its caller says nothing, in seconds; by default as ours do.
            read: Reads the body.
        """
        return Held(self._bytes.share(), partial(self._asked, request, waits_s, read))

    async def _asked(self, request: Request, waits_s: float, read: ReadBody, share: Share) -> Asking:
        body, timeout = await received(request, read, self.limits, share)
        return Asking(request, body, self, _at_most(timeout, waits_s))

    async def scorer(self, name: str | None, *, given: Collection[str]) -> ScorerEntry:
        """The scorer of a name, or the first one that scores by what is given.

        Args:
            name: As the caller has it; None: the first.
            given: Fields of an item: `image`, `text`.

        Raises:
            UnknownScorerError: It is not loaded.
        """
        loaded = await self.service.scorers()
        chosen = [each for each in loaded if each.id == name or (name is None and scores_by(each, given))]
        if not chosen:
            known = ", ".join(each.id for each in loaded) or "none"
            what = "that scores this" if name is None else repr(name[:64])
            raise UnknownScorerError(f"There is no scorer {what} here; loaded: {known}.")
        return max(chosen, key=lambda each: len(each.needs) if name is None else 0)

    async def embedder(self, name: str | None) -> ScorerEntry:
        """The scorer whose two towers embed images and texts.

        Args:
            name: Of it or of one of its encoders; None: the first.

        Raises:
            UnknownScorerError: None of that name does.
        """
        kinds = {encoder.key: encoder.kind for encoder in await self.service.encoders()}
        loaded = await self.service.scorers()
        able = [each for each in loaded if {"image", "text"} <= {kinds.get(key) for key in each.encoders}]
        for each in able:
            if name is None or each.id == name or name in each.encoders:
                return each
        known = ", ".join(each.id for each in able) or "none"
        raise UnknownScorerError(
            f"There is no model {(name or '')[:64]!r} that embeds here; these do: {known}.",
            errors=[{"pointer": "/model", "detail": "not loaded"}],
        )

    def reward_of(self, result: ItemResult, scorer: str) -> ValueOrError:
        """`value_of`, in the scale that clients of reward services expect.

        Args:
            result: The item's.
            scorer: One that was asked for.
        """
        value = value_of(result, scorer)
        return value if isinstance(value, PlumblineError) else value / self._divisors.get(scorer, 1.0)


def _at_most(timeout: CallerTimeout, waits_s: float) -> CallerTimeout:
    named_ms = math.inf if timeout.timeout_ms is None else timeout.timeout_ms
    least_ms = min(named_ms, waits_s * 1000)
    return timeout if math.isinf(least_ms) else replace(timeout, timeout_ms=least_ms)


def scores_by(scorer: ScorerEntry, given: Collection[str]) -> bool:
    """Whether a scorer needs nothing beside what is given.

    Args:
        scorer: A loaded one.
        given: Fields of an item.
    """
    return set(scorer.needs) <= set(given)


def field_fault(pointer: str, detail: str) -> InvalidFieldError:
    """That a field is wrong.

    Args:
        pointer: To it.
        detail: What it must be.
    """
    return InvalidFieldError(
        f"The request is not as the schema says: {pointer} {detail}.", errors=[{"pointer": pointer, "detail": detail}]
    )


def image_of(text: str) -> ImageSource:
    """An image that stands in a string: a data: URL, another URL, or base64."""
    head = text[:8].lower()
    return UrlImage(text) if "://" in head and not head.startswith("data:") else Base64Image(text)


def is_data_image(text: str) -> bool:
    """Whether a string that may be a text is an image."""
    return text[:10].lower().startswith("data:image")


def value_of(result: ItemResult, scorer: str) -> ValueOrError:
    """The finite value that a scorer gave an item, or why there is none.

    Args:
        result: The item's.
        scorer: One that was asked for.
    """
    if isinstance(result, ItemFailure):
        return result.error
    score = result.scores[scorer]
    if isinstance(score, PlumblineError):
        return score
    value = float(score.value)
    return value if math.isfinite(value) else EngineError("The scorer gave no number.", scorer=scorer)


def all_or_nothing(values: Sequence[ValueOrError]) -> list[float]:
    """The values of a batch, for formats that cannot say that one item failed.

    Raises:
        PlumblineError: What is wrong with the first item that has none.
    """
    for index, value in enumerate(values):
        if isinstance(value, PlumblineError):
            raise of_item(value, index)
    return [value for value in values if not isinstance(value, PlumblineError)]


def of_item(error: PlumblineError, index: int) -> PlumblineError:
    """The error of a whole request that fails for one of its items.

    Args:
        error: The item's.
        index: The item's place, from 0.
    """
    whole = type(error)(f"Item {index}: {error.detail}", **error.facts)
    whole.__cause__ = error.__cause__
    return whole


def json_reply(document: Any, status: int = 200, **headers: str) -> Response:
    """A reply in JSON.

    Args:
        document: Without NaN and infinity, which JSON has not.
        status: Of HTTP.
        **headers: Beside those of every reply.
    """
    return Response(orjson.dumps(document), status_code=status, headers={"content-type": JSON, **headers})
