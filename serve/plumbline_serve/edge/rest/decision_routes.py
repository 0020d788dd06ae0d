"""What each REST route about decisions does that are kept: thresholds, classifiers and references."""

from starlette.requests import Request
from starlette.responses import Response

from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest import replies as rest_replies
from plumbline_serve.edge.rest import requests as rest_requests
from plumbline_serve.edge.rest.answering import RequestReader, json_of, reply_with
from plumbline_serve.edge.rest.exchange import unless_gone
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.requests.service_protocol import Service


class DecisionRoutes:
    """The handlers; errors are raised, and answered by the middleware."""

    def __init__(self, service: Service, reader: RequestReader) -> None:
        self._service = service
        self._reader = reader

    async def calibrate(self, request: Request) -> Response:
        """Find a threshold from labelled scores, and keep it under a name."""
        read = rest_requests.calibration_request
        async with self._reader.read(request, schemas.CalibrationRequest, read) as (message, _):
            reply = await unless_gone(request, self._service.calibrate(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.calibration_document(reply))

    async def calibrations(self) -> Response:
        """List the calibrations that are kept."""
        return json_of(rest_replies.calibrations_document(await self._service.calibrations()))

    async def calibration(self, name: str) -> Response:
        """Show one calibration."""
        return json_of(rest_replies.calibration_document(await self._service.calibration(name)))

    async def delete_calibration(self, name: str) -> Response:
        """Forget one calibration."""
        await self._service.delete_calibration(name)
        return json_of({"status": "deleted"})

    async def classify(self, request: Request) -> Response:
        """Learn classes from a few images of each, and keep that as a scorer."""
        read = rest_requests.classifier_request
        async with self._reader.read(request, schemas.ClassifierRequest, read) as (message, _):
            reply = await unless_gone(request, self._service.classify(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.classifier_document(reply))

    async def classifiers(self) -> Response:
        """List the classifiers that are kept."""
        return json_of(rest_replies.classifiers_document(await self._service.classifiers()))

    async def delete_classifier(self, name: str) -> Response:
        """Forget one classifier."""
        await self._service.delete_classifier(name)
        return json_of({"status": "deleted"})

    async def refer(self, request: Request) -> Response:
        """Keep what a scorer's scores are compared with."""
        read = rest_requests.reference_request
        async with self._reader.read(request, schemas.ReferenceRequest, read) as (message, _):
            reply = await unless_gone(request, self._service.refer(message, call_of(request).grant.caller))
            return reply_with(request, reply, rest_replies.reference_document(reply))

    async def references(self) -> Response:
        """List the references that are kept."""
        return json_of(rest_replies.references_document(await self._service.references()))

    async def delete_reference(self, name: str) -> Response:
        """Forget the reference of one scorer."""
        await self._service.delete_reference(name)
        return json_of({"status": "deleted"})

    async def drift(self) -> Response:
        """Compare the scores that are given with their references."""
        return json_of(rest_replies.drift_document(await self._service.drift()))
