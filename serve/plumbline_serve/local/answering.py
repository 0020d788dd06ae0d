"""A service on an event loop of its own thread, which any thread asks: its requests are read as REST reads them.

So what is refused, and what is answered, is what a service refuses and answers: the same words, the same bits.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from plumbline_client import kept_calls, requests, sets
from plumbline_client.calls import Call
from plumbline_client.errors import UsageError, problem_error
from plumbline_client.problems import Problem
from plumbline_client.requests import Request
from plumbline_client.rest_wire import Parts, with_parts
from plumbline_models.core.errors import PlumblineError
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.edge import schemas
from plumbline_serve.edge.problems import problem, report_items
from plumbline_serve.edge.rest import replies as rest_replies
from plumbline_serve.edge.rest import requests as rest_requests
from plumbline_serve.requests.service import CoreService
from plumbline_serve.settings import Limits, Settings

T = TypeVar("T", bound=BaseModel)
CLOSE_TIMEOUT_S = 60.0
"""For what is under way when a service is closed."""


@dataclass(frozen=True, slots=True)
class Route:
    """How one kind of request is answered; each step as REST has it."""

    schema: type[Any]
    read: Callable[[Any, Any], Any]
    answer: Callable[[CoreService, Any], Awaitable[Any]]
    write: Callable[[Any], rest_replies.Document]


ROUTES: Mapping[type[Request[Any]], Route] = {
    requests.ScoreRequest: Route(
        schemas.ScoreRequest, rest_requests.score_request, CoreService.score, rest_replies.score_document
    ),
    requests.FilterRequest: Route(
        schemas.FilterRequest, rest_requests.filter_request, CoreService.filter, rest_replies.filter_document
    ),
    requests.RankRequest: Route(
        schemas.RankRequest, rest_requests.rank_request, CoreService.rank, rest_replies.rank_document
    ),
    requests.SelectRequest: Route(
        schemas.SelectRequest, rest_requests.select_request, CoreService.select, rest_replies.select_document
    ),
    requests.CalibrateRequest: Route(
        schemas.CalibrationRequest,
        rest_requests.calibration_request,
        CoreService.calibrate,
        rest_replies.calibration_document,
    ),
    kept_calls.ClassifyRequest: Route(
        schemas.ClassifierRequest,
        rest_requests.classifier_request,
        CoreService.classify,
        rest_replies.classifier_document,
    ),
    kept_calls.ReferRequest: Route(
        schemas.ReferenceRequest, rest_requests.reference_request, CoreService.refer, rest_replies.reference_document
    ),
    requests.EmbedRequest: Route(
        schemas.EmbedRequest,
        rest_requests.embed_request,
        CoreService.embed,
        lambda reply: rest_replies.embed_document(reply, "base64"),
    ),
    sets.DiversityRequest: Route(
        schemas.DiversityRequest, rest_requests.diversity_request, CoreService.measure, rest_replies.set_document
    ),
    sets.AuditRequest: Route(
        schemas.AuditRequest, rest_requests.audit_request, CoreService.measure, rest_replies.set_document
    ),
    sets.DistanceRequest: Route(
        schemas.DistanceRequest, rest_requests.distance_request, CoreService.measure, rest_replies.set_document
    ),
    sets.ReferSetRequest: Route(
        schemas.ReferenceSetRequest,
        rest_requests.reference_set_request,
        CoreService.refer_set,
        rest_replies.reference_set_document,
    ),
}


async def _readiness(service: CoreService, _: Any) -> rest_replies.Document:
    return {"status": "ready" if service.is_ready else "not_ready"}


async def _scorers(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.scorers_document(await service.named_scorers())


async def _encoders(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.encoders_document(await service.encoders())


async def _calibrations(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.calibrations_document(await service.calibrations())


async def _classifiers(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.classifiers_document(await service.classifiers())


async def _references(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.references_document(await service.references())


async def _reference_sets(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.reference_sets_document(await service.reference_sets())


async def _drift(service: CoreService, _: Any) -> rest_replies.Document:
    return rest_replies.drift_document(await service.drift())


async def _forget(service: CoreService, request: Any) -> rest_replies.Document:
    await FORGETTING[request.kind](service, request.name)
    return {"status": "deleted"}


FORGETTING: Mapping[str, Callable[[CoreService, str], Awaitable[None]]] = {
    requests.CALIBRATIONS: CoreService.delete_calibration,
    kept_calls.CLASSIFIERS: CoreService.delete_classifier,
    kept_calls.REFERENCES: CoreService.delete_reference,
    sets.REFERENCE_SETS: CoreService.delete_reference_set,
}
"""By kind of what is kept."""
LISTS: Mapping[type[Request[Any]], Callable[[CoreService, Any], Awaitable[rest_replies.Document]]] = {
    requests.ListScorersRequest: _scorers,
    requests.ListModelsRequest: _encoders,
    requests.ReadinessRequest: _readiness,
    requests.ListCalibrationsRequest: _calibrations,
    kept_calls.ListClassifiersRequest: _classifiers,
    kept_calls.ListReferencesRequest: _references,
    kept_calls.DriftRequest: _drift,
    sets.ListReferenceSetsRequest: _reference_sets,
    requests.ForgetRequest: _forget,
}
"""What is answered without a body."""


class LocalService:
    """A loaded service; any thread may ask.

    Args:
        settings: What it loads, and its limits.

    Raises:
        SetupError: The configuration names what is not there, or an encoder cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.limits: Limits = settings.limits
        self._process = os.getpid()
        loaded: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Assembly]] = Future()
        self._lock = threading.Lock()
        self._is_closed = False
        # A daemon: a program that ends without closing must not wait for it.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(_serve(settings, loaded)), name="plumbline", daemon=True
        )
        self._thread.start()
        self._loop, self._over, self._assembly = loaded.result()

    def ask(self, request: Request[Any], call: Call) -> "Future[Any]":
        """Begin to answer a request; `read` makes a reply of what comes.

        Args:
            request: The client's.
            call: Its name and time.

        Raises:
            PlumblineError: The request is wrong.
            UsageError: It is closed, or of another process, from which this one was forked.
        """
        if os.getpid() != self._process:
            raise UsageError("Engines do not outlive a fork: make a Plumbline in each process that scores.")
        service = self._assembly.service
        if type(request) in LISTS:
            return self._begin(lambda: LISTS[type(request)](service, request))
        route, parts = ROUTES[type(request)], Parts()
        document = with_parts(call.document(request), parts)
        body = rest_requests.read_document(document, route.schema, self.limits)
        message = route.read(body, dict(parts.values()))
        return self._begin(lambda: route.answer(service, message))

    def read(self, request: Request[T], answer: Any, call: Call) -> T:
        """The client's reply.

        Args:
            request: What was asked.
            answer: What came of it.
            call: Its name.
        """
        if type(request) in LISTS:
            return request.read(rest_replies.write_json(answer))
        report_items(answer, call.request_id)
        document = ROUTES[type(request)].write(answer)
        return request.read(rest_replies.write_json({"request_id": call.request_id, **document}))

    def close(self) -> None:
        """Take no new requests, wait for those under way, and let go of everything; a second time does nothing."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _begin(self, answer: Callable[[], Awaitable[Any]]) -> "Future[Any]":
        """Have the loop answer; what comes after it was told to end would wait for ever."""
        with self._lock:
            if self._is_closed:
                raise UsageError("The Plumbline is closed.")
            return asyncio.run_coroutine_threadsafe(_awaited(answer()), self._loop)


@contextmanager
def problems_of(call: Call) -> Iterator[None]:
    """Raise what the service refuses as the client's errors.

    Raises:
        ProblemError: It refused the request as a whole.
        UsageError: It was closed meanwhile.
    """
    try:
        yield
    except PlumblineError as error:
        raise problem_error(Problem.model_validate(problem(error, call.request_id))) from error
    except CancelledError as error:
        raise UsageError("The Plumbline was closed before the answer was ready.", request_id=call.request_id) from error


async def _serve(settings: Settings, loaded: "Future[Any]") -> None:
    """Load, say so, and answer until told that it is over."""
    try:
        async with assembled(settings) as assembly:
            over = asyncio.Event()
            loaded.set_result((asyncio.get_running_loop(), over, assembly))
            await over.wait()
            await assembly.service.drain(CLOSE_TIMEOUT_S)
    except BaseException as error:
        if loaded.done():
            raise
        loaded.set_exception(error)


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer
