"""The REST edge: one ASGI application over a service, with the pages for people."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from plumbline_serve.edge.access import Access, Scope
from plumbline_serve.edge.observe import EdgeObserver, Unobserved
from plumbline_serve.edge.rest.answering import RequestReader
from plumbline_serve.edge.rest.body import JSON
from plumbline_serve.edge.rest.browsers import Browsers
from plumbline_serve.edge.rest.contract_routes import PROBES, ContractRoute, contract_routes
from plumbline_serve.edge.rest.dispatch import Dispatch, Handler
from plumbline_serve.edge.rest.middleware import EdgeMiddleware, Paths, Refusal, problem_reply
from plumbline_serve.edge.rest.pages import PAGES, page
from plumbline_serve.edge.rest.replies import write_json
from plumbline_serve.edge.rest.routes import Routes
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Settings

OPENAPI = "/openapi.json"
OPEN_PATHS = PROBES | {OPENAPI, *PAGES}
"""What needs no key: probes send none, and the pages and the schema hold nothing of a caller's."""


@dataclass(frozen=True, slots=True)
class AddedRoute:
    """A route beside those of the contract; it is not in the schema."""

    method: str
    path: str
    """May have names in it, `/models/{name}`; such match no slash."""
    handler: Handler
    refusal: Refusal = problem_reply
    """Writes what fails before the handler says otherwise."""
    is_open: bool = False
    """Whether it needs no key."""


def create_app(
    service: Service,
    settings: Settings,
    observer: EdgeObserver | None = None,
    *,
    bytes_in_flight: BytesInFlight | None = None,
    access: Access | None = None,
    reload: Callable[[], None] | None = None,
    added: Sequence[AddedRoute] = (),
) -> EdgeMiddleware:
    """The application with every route of the contract.

    Args:
        service: What replies.
        settings: The limits, who may call, and what is there for browsers.
        observer: What hears of requests; default: nothing does.
        bytes_in_flight: The budget that is shared with the gRPC edge; default: one of its own.
        access: What lets callers in, shared likewise; default: one of its own.
        reload: Has the configuration be read anew; None: whoever deployed the service does that.
        added: Further routes, in the order in which they are tried.

    Raises:
        ConfigError: The file of API keys cannot be used.
    """
    told = observer or Unobserved()
    reader = RequestReader(settings.limits, bytes_in_flight or BytesInFlight(settings.limits, observer))
    routes = Routes(
        service,
        reader,
        reload=reload if settings.auth.keys_file is not None else None,
        as_openai="openai" in settings.edge.compat,
    )
    contract = contract_routes(service, reader, routes, has_metrics=settings.edge.metrics)
    return EdgeMiddleware(
        Dispatch(_handlers(contract, added, settings)),
        access=access or Access.open(settings.auth, told),
        browsers=Browsers(settings),
        paths=_paths(contract, added, has_pages=settings.edge.pages),
        observer=told,
    )


def _handlers(
    contract: Sequence[ContractRoute], added: Sequence[AddedRoute], settings: Settings
) -> Mapping[str, Mapping[str, Handler]]:
    """What answers, by path and method; of two the first."""
    found: dict[str, dict[str, Handler]] = {}
    for route in contract:
        found.setdefault(route.path, {}).setdefault(route.method, _taking_what_it_names(route.handler))
    for each in added:
        found.setdefault(each.path, {}).setdefault(each.method, each.handler)
    if settings.edge.pages:
        for path in PAGES:
            found.setdefault(path, {}).setdefault("GET", page(path))
        found.setdefault(OPENAPI, {}).setdefault("GET", _openapi_handler(contract, settings.scorer_names))
    return found


def _taking_what_it_names(handler: Callable[..., Any]) -> Handler:
    """A handler that is handed the request, or the names in its path, or nothing, as its parameters say."""
    named = tuple(signature(handler).parameters)
    if named == ("request",):
        return handler

    async def handle(request: Request) -> Response:
        response: Response = await handler(**{name: request.path_params[name] for name in named})
        return response

    return handle


def _paths(contract: Sequence[ContractRoute], added: Sequence[AddedRoute], *, has_pages: bool) -> Paths:
    """Which paths there are, in the order in which they are tried, and what a caller's key must be for."""
    scopes: dict[tuple[str, str], Scope] = {
        (each.method, each.path): each.scope for each in contract if each.path not in PROBES
    }
    for each in added:
        if not each.is_open:
            scopes.setdefault((each.method, each.path), "score")
    pages = (*PAGES, OPENAPI) if has_pages else ()
    known = dict.fromkeys([*(each.path for each in contract), *(each.path for each in added), *pages])
    return Paths(
        known=known.keys(),
        open=(OPEN_PATHS & known.keys()) | {each.path for each in added if each.is_open},
        scopes=scopes,
        patterns={path: compile_path(path)[0] for path in known if "{" in path},
        refusals={each.path: each.refusal for each in added},
    )


def _openapi_handler(contract: Iterable[ContractRoute], scorers: Sequence[str]) -> Handler:
    body = b""

    async def show(request: Request) -> Response:
        nonlocal body
        del request
        body = body or await asyncio.to_thread(_openapi_document, contract, scorers)
        return Response(body, media_type=JSON)

    return show


def _openapi_document(contract: Iterable[ContractRoute], scorers: Sequence[str]) -> bytes:
    from plumbline_serve.edge.rest import openapi  # noqa: PLC0415 - brings FastAPI, which only the schema needs

    return write_json(openapi.describe(contract, open_paths=OPEN_PATHS, scorers=scorers))
