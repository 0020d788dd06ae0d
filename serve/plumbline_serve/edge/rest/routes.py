"""What each REST route does: read the request, call the service, write the reply."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import AccessError, NotReadyError
from plumbline_serve.bytes_in_flight import BytesInFlight
from plumbline_serve.edge import schemas
from plumbline_serve.edge.access import num_items_of
from plumbline_serve.edge.parsing import with_remaining_time
from plumbline_serve.edge.problems import report_items
from plumbline_serve.edge.rest import replies as rest_replies
from plumbline_serve.edge.rest import requests as rest_requests
from plumbline_serve.edge.rest.body import JSON, read_body
from plumbline_serve.edge.rest.exchange import received, unless_gone
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.edge.rest.requests import Parts
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.set_messages import AnyReply, AnyRequest, SetRequest
from plumbline_serve.settings import Limits

B = TypeVar("B", bound=schemas.Request)
M = TypeVar("M", bound=AnyRequest)

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
LOADING_RETRY_AFTER_S = 2.0


class Routes:
    """The handlers; errors are raised, and answered by the middleware."""

    def __init__(
        self,
        service: Service,
        limits: Limits,
        bytes_in_flight: BytesInFlight,
        *,
        reload: Callable[[], None] | None = None,
        as_openai: bool = False,
    ) -> None:
        self._service = service
        self._as_openai = as_openai
        self._reload = reload
        self._limits = limits
        self._bytes = bytes_in_flight

    async def score(self, request: Request) -> Response:
        """Score items in one batch."""
        async with self._read(request, schemas.ScoreRequest, rest_requests.score_request) as (message, _):
            reply = await unless_gone(request, self._service.score(message, call_of(request).grant.caller))
            return _reply(request, reply, rest_replies.score_document(reply))

    async def filter(self, request: Request) -> Response:
        """Accept or reject items by a policy over scorers, cheapest scorer first."""
        async with self._read(request, schemas.FilterRequest, rest_requests.filter_request) as (message, _):
            reply = await unless_gone(request, self._service.filter(message, call_of(request).grant.caller))
            return _reply(request, reply, rest_replies.filter_document(reply))

    async def rank(self, request: Request) -> Response:
        """Order N images for one text, or N texts for one image."""
        async with self._read(request, schemas.RankRequest, rest_requests.rank_request) as (message, _):
            reply = await unless_gone(request, self._service.rank(message, call_of(request).grant.caller))
            return _reply(request, reply, rest_replies.rank_document(reply))

    async def embed(self, request: Request) -> Response:
        """Make unit-norm vectors of images or texts."""
        async with self._read(request, schemas.EmbedRequest, rest_requests.embed_request) as (message, body):
            reply = await unless_gone(request, self._service.embed(message, call_of(request).grant.caller))
            return _reply(request, reply, rest_replies.embed_document(reply, body.encoding))

    async def diversity(self, request: Request) -> Response:
        """Say how many different images a set holds, and which are the same."""
        async with self._read(request, schemas.DiversityRequest, rest_requests.diversity_request) as (message, _):
            return await self._measured(request, message)

    async def distance(self, request: Request) -> Response:
        """Say how far two sets are from each other."""
        async with self._read(request, schemas.DistanceRequest, rest_requests.distance_request) as (message, _):
            return await self._measured(request, message)

    async def scorers(self) -> Response:
        """List the loaded scorers."""
        return _json(rest_replies.scorers_document(await self._service.scorers()))

    async def models(self) -> Response:
        """List the loaded encoders."""
        encoders = await self._service.encoders()
        document = rest_replies.encoders_document(encoders)
        if self._as_openai:
            document |= rest_replies.openai_models(await self._service.scorers(), encoders)
        return _json(document)

    async def livez(self) -> Response:
        """Say that the process is up."""
        return _json({"status": "alive"})

    async def readyz(self) -> Response:
        """Say whether every configured encoder is loaded, compiled and warmed, and how each group of them is."""
        groups = {"groups": dict(self._service.groups)} if self._service.groups else {}
        if not self._service.is_ready:
            raise NotReadyError("The service takes no work now.", retry_after_s=LOADING_RETRY_AFTER_S, **groups)
        return _json({"status": "ready", **groups})

    async def reload(self) -> Response:
        """Have the configuration be read anew; whether it is taken, the log says."""
        if self._reload is None:
            raise AccessError("Only `plumbline serve` with API keys reads its configuration anew.")
        self._reload()
        return _json({"status": "accepted"})

    async def metrics(self) -> Response:
        """Show the Prometheus exposition of the whole application, all replicas."""
        return Response(await self._service.metrics(), headers={"content-type": EXPOSITION})

    async def _measured(self, request: Request, message: SetRequest) -> Response:
        reply = await unless_gone(request, self._service.measure(message, call_of(request).grant.caller))
        return _reply(request, reply, rest_replies.set_document(reply))

    @asynccontextmanager
    async def _read(
        self, request: Request, schema: type[B], read: Callable[[B, Parts], M]
    ) -> AsyncIterator[tuple[M, B]]:
        """The parsed request, and the body that it stands in; its bytes are in flight until it is answered."""
        async with received(request, read_body, self._limits, self._bytes) as (body, caller_timeout):
            document = rest_requests.read_document(body.document, schema, self._limits)
            message = read(document, body.parts)
            call_of(request).noted.num_items = num_items_of(message)
            await call_of(request).grant.spend_on(message)
            yield with_remaining_time(message, caller_timeout), document


def _reply(request: Request, reply: AnyReply, document: rest_replies.Document) -> Response:
    request_id = call_of(request).request_id
    report_items(reply, request_id)
    return _json({"request_id": request_id, **document})


def _json(document: rest_replies.Document) -> Response:
    return Response(rest_replies.write_json(document), media_type=JSON)
