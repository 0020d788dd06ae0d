"""What each REST route does: read the request, call the service, write the reply."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import AccessError, NotReadyError
from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest import replies as rest_replies
from plumbline_serve.edge.rest import requests as rest_requests
from plumbline_serve.edge.rest.answering import RequestReader, json_of, reply_with
from plumbline_serve.edge.rest.exchange import unless_gone
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.requests.service_protocol import Service

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
LOADING_RETRY_AFTER_S = 2.0


class Routes:
    """The handlers; errors are raised, and answered by the middleware."""

    def __init__(
        self,
        service: Service,
        reader: RequestReader,
        *,
        reload: Callable[[], None] | None = None,
        as_openai: bool = False,
    ) -> None:
        self._service = service
        self._as_openai = as_openai
        self._reload = reload
        self._reader = reader

    async def score(self, request: Request) -> Response:
        """Score items in one batch."""
        async with self._reader.read(request, schemas.ScoreRequest, rest_requests.score_request) as (message, _):
            reply = await unless_gone(request, self._service.score(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.score_document(reply))

    async def filter(self, request: Request) -> Response:
        """Accept or reject items by a policy over scorers, cheapest scorer first."""
        async with self._reader.read(request, schemas.FilterRequest, rest_requests.filter_request) as (message, _):
            reply = await unless_gone(request, self._service.filter(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.filter_document(reply))

    async def rank(self, request: Request) -> Response:
        """Order N images for one text, or N texts for one image."""
        async with self._reader.read(request, schemas.RankRequest, rest_requests.rank_request) as (message, _):
            reply = await unless_gone(request, self._service.rank(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.rank_document(reply))

    async def select(self, request: Request) -> Response:
        """Choose one of N images for a text, and say what that is certain to gain."""
        async with self._reader.read(request, schemas.SelectRequest, rest_requests.select_request) as (message, _):
            reply = await unless_gone(request, self._service.select(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.select_document(reply))

    async def embed(self, request: Request) -> Response:
        """Make unit-norm vectors of images or texts."""
        async with self._reader.read(request, schemas.EmbedRequest, rest_requests.embed_request) as (message, body):
            reply = await unless_gone(request, self._service.embed(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.embed_document(reply, body.encoding))

    async def scorers(self) -> Response:
        """List the scorers: those that are loaded, then the classifiers that are kept."""
        return json_of(rest_replies.scorers_document(await self._service.named_scorers()))

    async def models(self) -> Response:
        """List the loaded encoders."""
        encoders = await self._service.encoders()
        document = rest_replies.encoders_document(encoders)
        if self._as_openai:
            document |= rest_replies.openai_models(await self._service.scorers(), encoders)
        return json_of(document)

    async def livez(self) -> Response:
        """Say that the process is up."""
        return json_of({"status": "alive"})

    async def readyz(self) -> Response:
        """Say whether every configured encoder is loaded, compiled and warmed, and how each group of them is."""
        groups = {"groups": dict(self._service.groups)} if self._service.groups else {}
        if not self._service.is_ready:
            raise NotReadyError("The service takes no work now.", retry_after_s=LOADING_RETRY_AFTER_S, **groups)
        return json_of({"status": "ready", **groups})

    async def reload(self) -> Response:
        """Have the configuration be read anew; whether it is taken, the log says."""
        if self._reload is None:
            raise AccessError("Only `plumbline serve` with API keys reads its configuration anew.")
        self._reload()
        return json_of({"status": "accepted"})

    async def metrics(self) -> Response:
        """Show the Prometheus exposition of the whole application, all replicas."""
        return Response(await self._service.metrics(), headers={"content-type": EXPOSITION})
