"""One gRPC call: its context, its name in the log, how its errors leave, and how a stream of batches is answered.

Under Ray Serve an error's details arrive only if the method sets code, details and trailing metadata and then
returns; so no method of the edge raises.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.edge.access import NO_KEY, Access, Grant, Scope
from plumbline_serve.edge.caller_timeout import CallerTimeout
from plumbline_serve.edge.grpc.status import grpc_code, status
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.edge.problems import refuse
from plumbline_serve.edge.received import GRPC_TIMEOUT, RECEIVED, timeout_ms, waited_s
from plumbline_serve.edge.request_log import Answered, RequestLog
from plumbline_serve.request_ids import request_id
from plumbline_serve.scheduling.concurrency import release
from plumbline_wire import REQUEST_ID_KEY, STATUS_DETAILS_KEY

R = TypeVar("R", bound=Message)
Q = TypeVar("Q")
A = TypeVar("A")


class CallContext(Protocol):
    """What the edge needs of a context; Ray Serve's is one as it is.

    A context may also have `peer() -> str`, and `time_remaining() -> float | None`, which Ray's has not.
    """

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """The caller's metadata, names in lower case."""
        ...

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status code."""
        ...

    def set_details(self, details: str) -> None:
        """Set the status message."""
        ...

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """Set the trailing metadata, once."""
        ...


@dataclass(slots=True)
class GrpcCall:
    """One call under way."""

    context: CallContext
    request_id: str
    authorization: str | None
    timeout: CallerTimeout
    grant: Grant = NO_KEY
    """What its caller was let in with."""
    code: grpc.StatusCode = grpc.StatusCode.CANCELLED
    """Until it succeeds or fails."""
    num_items: int | None = None
    """None: the request was not read so far."""
    refusal: PlumblineError | None = None
    """Why it failed."""

    @classmethod
    def of(cls, context: CallContext) -> "GrpcCall":
        """The call of a context."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        waited = waited_s(metadata.get(RECEIVED))
        remaining_ms = _remaining_ms(context)
        total_ms = timeout_ms(metadata.get(GRPC_TIMEOUT)) if remaining_ms is None else remaining_ms + waited * 1000
        timeout = CallerTimeout(time.monotonic() - waited, total_ms)
        return cls(context, request_id(metadata.get(REQUEST_ID_KEY)), metadata.get("authorization"), timeout)

    def succeed(self) -> None:
        """Finish without an error."""
        self.code = grpc.StatusCode.OK
        self.context.set_trailing_metadata([(REQUEST_ID_KEY, self.request_id), *self.grant.headers()])

    def fail(self, error: Exception, observer: EdgeObserver) -> None:
        """Finish with an error.

        Args:
            error: Why the call fails.
            observer: What hears of refusals.
        """
        self.refusal = visible = refuse(error, self.request_id, observer)
        details = status(visible)
        self.code = grpc_code(visible)
        self.context.set_code(self.code)
        self.context.set_details(details.message)
        self.context.set_trailing_metadata(
            [
                (REQUEST_ID_KEY, self.request_id),
                (STATUS_DETAILS_KEY, details.SerializeToString()),
                *self.grant.headers(),
            ]
        )


class CallInterceptor:
    """Where every call passes: checks the key, keeps exceptions in, counts."""

    def __init__(self, access: Access, observer: EdgeObserver) -> None:
        self._access = access
        self._observer = observer
        self.log = RequestLog(observer)
        """Of every call."""

    async def run(
        self,
        rpc: str,
        context: CallContext,
        answer: Callable[[GrpcCall], Awaitable[R]],
        *,
        failed: R,
        is_open: bool = False,
        scope: Scope = "score",
    ) -> R:
        """Answer a call.

        Args:
            rpc: Names the method in the metrics.
            context: The call's.
            answer: Makes the reply.
            failed: What is returned beside an error.
            is_open: Whether it needs no key.
            scope: What the key must be for otherwise.
        """
        call = GrpcCall.of(context)
        try:
            if not is_open:
                call.grant = self._access.check(call.authorization, scope)
            async with call.grant.entered():
                reply = await answer(call)
                call.succeed()
        except asyncio.CancelledError as stopped:
            release(stopped)
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, the caller gets a status
            call.fail(error, self._observer)
            return failed
        finally:
            self._count(rpc, call)
        return reply

    async def stream(
        self,
        rpc: str,
        context: CallContext,
        answers: Callable[[GrpcCall], AsyncGenerator[R, None]],
        *,
        is_open: bool = False,
    ) -> AsyncGenerator[R, None]:
        """Answer a call with a stream; see `run`."""
        call = GrpcCall.of(context)
        try:
            if not is_open:
                call.grant = self._access.check(call.authorization, "score")
            async with call.grant.entered(is_stream=True), aclosing(answers(call)) as replies:
                async for reply in replies:
                    yield reply
            call.succeed()
        except asyncio.CancelledError as stopped:
            release(stopped)
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, the caller gets a status
            call.fail(error, self._observer)
        finally:
            self._count(rpc, call)

    def granted(self, call: GrpcCall) -> Grant:
        """What the caller of an open stream may do by now: its key may have expired, or been changed or revoked.

        Raises:
            AccessError: Nothing any more.
        """
        return self._access.check(call.authorization, "score")

    def _count(self, rpc: str, call: GrpcCall) -> None:
        seconds = time.monotonic() - call.timeout.started_s
        answered = Answered(call.request_id, rpc, "grpc", call.code.name, seconds)
        answered.num_items, answered.caller, answered.refusal = call.num_items, call.grant.caller.tenant, call.refusal
        self.log.answered(answered)


def peer_of(context: CallContext) -> str:
    """The other end of a call's connection, as gRPC writes it; empty where the context does not say."""
    peer: Callable[[], str] = getattr(context, "peer", str)
    return peer()


def _remaining_ms(context: CallContext) -> float | None:
    time_remaining = getattr(context, "time_remaining", None)
    remaining_s = None if time_remaining is None else time_remaining()
    return None if remaining_s is None else float(remaining_s) * 1000


async def answer_each(
    requests: AsyncIterator[Q],
    answer: Callable[[Q], Awaitable[A]],
    *,
    most: int,
    given_up: "asyncio.Future[None] | None" = None,
) -> AsyncGenerator[A, None]:
    """Answer the requests of a stream at the same time, in the order in which the replies become ready.

    Args:
        requests: The stream.
        answer: Makes the reply to one.
        most: Requests that may be under way; further ones are not read, so that the sender waits.
        given_up: Ends the stream once it has an error, which is raised here.
    """
    under_way: set[asyncio.Future[A]] = set()
    reading: asyncio.Future[Q | None] | None = None
    is_over = False
    try:
        while not is_over or under_way:
            if reading is None and not is_over and len(under_way) < most:
                reading = asyncio.ensure_future(_next(requests))
            waited: set[asyncio.Future[Any]] = {each for each in (reading, given_up) if each is not None}
            await asyncio.wait(waited | under_way, return_when=asyncio.FIRST_COMPLETED)
            if given_up is not None and given_up.done():
                given_up.result()  # raises
            if reading is not None and reading.done():
                request = reading.result()
                reading = None
                if request is None:
                    is_over = True
                else:
                    under_way.add(asyncio.ensure_future(answer(request)))
                    del request  # the task has it now, until it is answered
            for task in [each for each in under_way if each.done()]:
                under_way.remove(task)
                yield task.result()
    finally:
        left: list[asyncio.Future[Any]] = [*under_way] if reading is None else [reading, *under_way]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _next(requests: AsyncIterator[Q]) -> Q | None:
    return await anext(requests, None)
