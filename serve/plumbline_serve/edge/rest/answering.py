"""What every route of ours does with a request: its body becomes a message, and the service's reply a response."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from plumbline_serve.edge import schemas
from plumbline_serve.edge.access import num_items_of
from plumbline_serve.edge.caller_timeout import with_remaining_time
from plumbline_serve.edge.problems import report_items
from plumbline_serve.edge.rest import replies as rest_replies
from plumbline_serve.edge.rest import requests as rest_requests
from plumbline_serve.edge.rest.body import JSON, read_body
from plumbline_serve.edge.rest.exchange import Held, received
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.edge.rest.requests import Parts
from plumbline_serve.memory.bytes_in_flight import BytesInFlight, Share
from plumbline_serve.messages.sets import AnyReply, AnyRequest
from plumbline_serve.settings import Limits

B = TypeVar("B", bound=schemas.Request)
M = TypeVar("M", bound=AnyRequest)


class RequestReader:
    """Reads the bodies of requests.

    Args:
        limits: The service's.
        bytes_in_flight: The budget that they draw on.
    """

    def __init__(self, limits: Limits, bytes_in_flight: BytesInFlight) -> None:
        self._limits = limits
        self._bytes = bytes_in_flight

    def read(self, request: Request, schema: type[B], read: Callable[[B, Parts], M]) -> Held[tuple[M, B]]:
        """The parsed request, and the body that it stands in; its bytes are in flight until it is answered.

        Args:
            request: The caller's.
            schema: What the route takes.
            read: Makes the message of a body.
        """
        return Held(self._bytes.share(), partial(self._read, request, schema, read))

    async def _read(
        self, request: Request, schema: type[B], read: Callable[[B, Parts], M], share: Share
    ) -> tuple[M, B]:
        body, caller_timeout = await received(request, read_body, self._limits, share)
        document = rest_requests.read_document(body.document, schema, self._limits)
        message = read(document, body.parts)
        call_of(request).noted.num_items = num_items_of(message)
        await call_of(request).grant.spend_on(message)
        return with_remaining_time(message, caller_timeout), document


def reply_with(request: Request, reply: AnyReply, document: rest_replies.Document) -> Response:
    """The response of a reply, whose failures are logged.

    Args:
        request: The caller's.
        reply: What the service replied.
        document: The same as JSON, but for the request's id.
    """
    request_id = call_of(request).request_id
    report_items(reply, request_id)
    return json_of({"request_id": request_id, **document})


def json_of(document: rest_replies.Document) -> Response:
    """A document as a response."""
    return Response(rest_replies.write_json(document), media_type=JSON)
