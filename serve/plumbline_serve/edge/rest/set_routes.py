"""What each REST route about sets of images does."""

from starlette.requests import Request
from starlette.responses import Response

from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest import replies as rest_replies
from plumbline_serve.edge.rest import requests as rest_requests
from plumbline_serve.edge.rest.answering import RequestReader, json_of, reply_with
from plumbline_serve.edge.rest.exchange import unless_gone
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.messages.sets import SetRequest
from plumbline_serve.requests.service_protocol import Service


class SetRoutes:
    """The handlers; errors are raised, and answered by the middleware."""

    def __init__(self, service: Service, reader: RequestReader) -> None:
        self._service = service
        self._reader = reader

    async def diversity(self, request: Request) -> Response:
        """Say how many different images a set holds, and which are the same."""
        async with self._reader.read(request, schemas.DiversityRequest, rest_requests.diversity_request) as (
            message,
            _,
        ):
            return await self._measured(request, message)

    async def distance(self, request: Request) -> Response:
        """Say how far two sets are from each other."""
        async with self._reader.read(request, schemas.DistanceRequest, rest_requests.distance_request) as (message, _):
            return await self._measured(request, message)

    async def audit(self, request: Request) -> Response:
        """Say how evenly a set is spread over groups, where audits are switched on."""
        async with self._reader.read(request, schemas.AuditRequest, rest_requests.audit_request) as (message, _):
            return await self._measured(request, message)

    async def refer_set(self, request: Request) -> Response:
        """Keep a set of images, for others to be compared with."""
        read = rest_requests.reference_set_request
        async with self._reader.read(request, schemas.ReferenceSetRequest, read) as (message, _):
            reply = await unless_gone(request, self._service.refer_set(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.reference_set_document(reply))

    async def reference_sets(self) -> Response:
        """List the sets that are kept."""
        return json_of(rest_replies.reference_sets_document(await self._service.reference_sets()))

    async def delete_reference_set(self, name: str) -> Response:
        """Forget one set."""
        await self._service.delete_reference_set(name)
        return json_of({"status": "deleted"})

    async def _measured(self, request: Request, message: SetRequest) -> Response:
        reply = await unless_gone(request, self._service.measure(message, call_of(request).grant.caller))
        return reply_with(request, reply, rest_replies.set_document(reply))
