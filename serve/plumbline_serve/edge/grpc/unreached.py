"""What Ray Serve's gRPC servers answer where the edge did not: UNAVAILABLE with details, so that clients try again.

Where a gateway dies with a call, Ray's proxy answers INTERNAL or CANCELLED in words of Ray. The edge raises nothing and
sends details with every error, so such a status without details is never its own: the call did not reach the edge, or
its answer did not come back.
"""

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from plumbline_models.core.errors import CapacityError
from plumbline_serve.edge.grpc.status import grpc_code, status
from plumbline_serve.request_ids import request_id
from plumbline_wire import REQUEST_ID_KEY, STATUS_DETAILS_KEY

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
FAILED = "Ray Serve failed with a call"
Handler = Callable[..., Any]
_NOT_THE_EDGES = {
    number
    for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
    for number in (code, code.value[0])  # a context says either
}


def unreached() -> CapacityError:
    """What is answered in place of a gateway, on either wire."""
    return CapacityError(
        "The gateway that was to answer cannot be reached at the moment; try again.", retry_after_s=RETRY_AFTER_S
    )


def explained(make: Callable[..., Handler]) -> Callable[..., Handler]:
    """A factory of handlers as Ray Serve's gRPC servers have it, whose handlers answer for a gateway that does not.

    Args:
        make: Of the server; its handlers take a request, or a stream of them, and a context of grpc.aio.
    """

    def make_explained(*args: Any, **kwargs: Any) -> Handler:
        handler = make(*args, **kwargs)
        return _streaming(handler) if inspect.isasyncgenfunction(handler) else _unary(handler)

    return make_explained


def _unary(handler: Callable[..., Awaitable[bytes]]) -> Handler:
    async def answer(request: Any, context: Any) -> bytes:
        reply = b""
        try:
            reply = await handler(request, context)
        except Exception:
            log.exception(FAILED)
            context.set_code(grpc.StatusCode.UNKNOWN)
        _explain(context)
        return reply

    return answer


def _streaming(handler: Callable[..., AsyncGenerator[bytes, None]]) -> Handler:
    async def answer(request: Any, context: Any) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(handler(request, context)) as replies:
                async for reply in replies:
                    yield reply
        except Exception:
            log.exception(FAILED)
            context.set_code(grpc.StatusCode.UNKNOWN)
        _explain(context)

    return answer


def _explain(context: Any) -> None:
    trailing = [*(context.trailing_metadata() or ())]
    if context.code() not in _NOT_THE_EDGES or any(key == STATUS_DETAILS_KEY for key, _ in trailing):
        return
    error = unreached()
    details = status(error)
    sent = dict(context.invocation_metadata()).get(REQUEST_ID_KEY)
    own_id = request_id(sent if isinstance(sent, str) else None)
    context.set_code(grpc_code(error))
    context.set_details(details.message)
    context.set_trailing_metadata(
        [*trailing, (REQUEST_ID_KEY, own_id), (STATUS_DETAILS_KEY, details.SerializeToString())]
    )
