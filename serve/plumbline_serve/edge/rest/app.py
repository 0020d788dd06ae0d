"""The REST edge: one ASGI application over a service, with the pages for people.

The pages are the playground and the browsable schema, from files in packages, with no network. Swagger UI comes from
`fastapi-offline`, which packs its current release unchanged; its own page is not used, for it needs inline scripts, and
these pages allow none.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeAlias

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.staticfiles import StaticFiles

from plumbline_models.core.errors import MalformedRequestError, MethodNotAllowedError, RouteNotFoundError
from plumbline_serve.edge.access import Access, Scope
from plumbline_serve.edge.observe import EdgeObserver, Unobserved
from plumbline_serve.edge.rest import openapi
from plumbline_serve.edge.rest.answering import RequestReader
from plumbline_serve.edge.rest.body import JSON
from plumbline_serve.edge.rest.browsers import Browsers
from plumbline_serve.edge.rest.contract_routes import ContractRoute, contract_routes
from plumbline_serve.edge.rest.middleware import EdgeMiddleware, Paths, Refusal, problem_reply
from plumbline_serve.edge.rest.replies import write_json
from plumbline_serve.edge.rest.routes import Routes
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Settings

Folder: TypeAlias = tuple[str, str]
"""A package and a folder in it."""

_OURS: Folder = ("plumbline_serve", "playground")
_GALLERY: Folder = ("plumbline_serve", "demo/gallery")
_SWAGGER: Folder = ("fastapi_offline", "static")

PLAYGROUND_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI sets styles on its elements.
DOCS_POLICY = PLAYGROUND_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

_PLAYGROUND = (
    *("playground.css", "playground.js", "copying.js", "elements.js", "examples.js", "filter.js", "images.js"),
    *("results.js", "scorers.js", "service.js", "sets.js", "verdicts.js", "words.js"),
)
_GALLERY_FILES = (
    *("captions.json", "green_star.png", "heart_above_cross.png", "red_circle.png", "ring_and_triangle.png"),
    *("striped_square.png", "three_diamonds.png"),
)

PAGES: Mapping[str, tuple[Folder, str, str]] = {
    "/": (_OURS, "index.html", PLAYGROUND_POLICY),
    **{f"/{name}": (_OURS, name, PLAYGROUND_POLICY) for name in _PLAYGROUND},
    **{f"/gallery/{name}": (_GALLERY, name, PLAYGROUND_POLICY) for name in _GALLERY_FILES},
    "/docs": (_OURS, "docs.html", DOCS_POLICY),
    "/docs.js": (_OURS, "docs.js", DOCS_POLICY),
    "/swagger-ui-bundle.js": (_SWAGGER, "swagger-ui-bundle.js", DOCS_POLICY),
    "/swagger-ui.css": (_SWAGGER, "swagger-ui.css", DOCS_POLICY),
}
"""Folder, file and content security policy by path."""

OPENAPI = "/openapi.json"
PROBES = frozenset({"/livez", "/readyz"})
OPEN_PATHS = PROBES | {OPENAPI, *PAGES}
"""What needs no key: probes send none, and the pages and the schema hold nothing of a caller's."""
_NOT_FOUND = 404
_NOT_ALLOWED = 405
_DESCRIPTION = "Scores images against their prompts: alignment, misaligned words, quality."


@dataclass(frozen=True, slots=True)
class AddedRoute:
    """A route beside those of the contract; it is not in the schema."""

    method: str
    path: str
    """May have names in it, `/models/{name}`; such match no slash."""
    handler: Callable[[Request], Awaitable[Response]]
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
) -> FastAPI:
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
    app = _without_routes()
    scopes = _add_routes(app, contract_routes(service, reader, routes, has_metrics=settings.edge.metrics))
    for asked, scope in _add_others(app, added).items():
        scopes.setdefault(asked, scope)
    if settings.edge.pages:
        _add_pages(app, settings)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_middleware(
        EdgeMiddleware,
        access=access or Access.open(settings.auth, told),
        browsers=Browsers(settings),
        paths=_paths(app, scopes, added),
        observer=told,
    )
    return app


def _without_routes() -> FastAPI:
    return FastAPI(
        title="Plumbline",
        version=version("plumbline-serve"),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )


def _add_routes(app: FastAPI, routes: Iterable[ContractRoute]) -> dict[tuple[str, str], Scope]:
    """Add the routes of the contract.

    Returns:
        What the key of each must be for, by its method and path, but for probes.
    """
    scopes: dict[tuple[str, str], Scope] = {}
    for each in routes:
        app.add_api_route(
            each.path,
            each.handler,
            methods=[each.method],
            tags=[each.tag],
            operation_id=each.handler.__name__,
            response_class=Response,
        )
        if each.path not in PROBES:
            scopes[each.method, each.path] = each.scope
    return scopes


def _add_others(app: FastAPI, added: Iterable[AddedRoute]) -> dict[tuple[str, str], Scope]:
    scopes: dict[tuple[str, str], Scope] = {}
    for each in added:
        app.add_route(each.path, each.handler, methods=[each.method], include_in_schema=False)
        if not each.is_open:
            scopes[each.method, each.path] = "score"
    return scopes


def _add_pages(app: FastAPI, settings: Settings) -> None:
    for path in PAGES:
        app.add_route(path, _page(path), methods=["GET"], include_in_schema=False)
    app.add_route(OPENAPI, _openapi_handler(app, settings.scorer_names), methods=["GET"], include_in_schema=False)


def _paths(app: FastAPI, scopes: Mapping[tuple[str, str], Scope], added: Sequence[AddedRoute]) -> Paths:
    known = frozenset(getattr(route, "path", "") for route in app.routes)
    return Paths(
        known=known,
        open=(OPEN_PATHS & known) | {each.path for each in added if each.is_open},
        scopes=scopes,
        patterns={path: compile_path(path)[0] for path in known if "{" in path},
        refusals={each.path: each.refusal for each in added},
    )


def _page(path: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one page; browsers ask each time, with the etag, so that an upgrade shows at once."""
    folder, file, policy = PAGES[path]
    files = StaticFiles(packages=[folder])
    headers = {"content-security-policy": policy, "cache-control": "no-cache"}

    async def show(request: Request) -> Response:
        response = await files.get_response(file, request.scope)
        response.headers.update(headers)
        return response

    return show


def _openapi_handler(app: FastAPI, scorers: Sequence[str]) -> Callable[[Request], Awaitable[Response]]:
    body = b""

    async def show(request: Request) -> Response:
        nonlocal body
        del request
        body = body or write_json(openapi.describe(app, open_paths=OPEN_PATHS, scorers=scorers))
        return Response(body, media_type=JSON)

    return show


async def _refuse(request: Request, error: Exception) -> Response:
    """Say in our words what the router refuses; the middleware makes the reply."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == _NOT_FOUND:
        raise RouteNotFoundError("There is no such route.")
    if error.status_code == _NOT_ALLOWED:
        allowed = _allowed(error)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allowed})
        raise MethodNotAllowedError(f"The route takes {allowed} only.", allow=allowed)
    raise MalformedRequestError("The request cannot be read.") from error


def _allowed(error: HTTPException) -> str:
    headers: dict[str, Any] = dict(error.headers or {})
    methods = {each.strip() for each in headers.get("Allow", "").split(",")} - {""}
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
