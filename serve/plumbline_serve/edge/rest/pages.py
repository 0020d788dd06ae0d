"""The pages for people: the playground and the browsable schema, from files in packages, with no network.

Swagger UI comes from `fastapi-offline`, which packs its current release unchanged; its own page is not used, for it
needs inline scripts, and these pages allow none.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

Folder: TypeAlias = tuple[str, str]
"""A package and a folder in it."""

_OURS: Folder = ("plumbline_serve", "playground")
_SWAGGER: Folder = ("fastapi_offline", "static")

PLAYGROUND_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI sets styles on its elements.
DOCS_POLICY = PLAYGROUND_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

PAGES: Mapping[str, tuple[Folder, str, str]] = {
    "/": (_OURS, "index.html", PLAYGROUND_POLICY),
    "/playground.css": (_OURS, "playground.css", PLAYGROUND_POLICY),
    "/playground.js": (_OURS, "playground.js", PLAYGROUND_POLICY),
    "/results.js": (_OURS, "results.js", PLAYGROUND_POLICY),
    "/docs": (_OURS, "docs.html", DOCS_POLICY),
    "/docs.js": (_OURS, "docs.js", DOCS_POLICY),
    "/swagger-ui-bundle.js": (_SWAGGER, "swagger-ui-bundle.js", DOCS_POLICY),
    "/swagger-ui.css": (_SWAGGER, "swagger-ui.css", DOCS_POLICY),
}
"""Folder, file and content security policy by path."""


def page(path: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one page; browsers ask each time, with the etag, so that an upgrade shows at once."""
    folder, file, policy = PAGES[path]
    files = StaticFiles(packages=[folder])
    headers = {"content-security-policy": policy, "cache-control": "no-cache", "referrer-policy": "no-referrer"}

    async def show(request: Request) -> Response:
        response = await files.get_response(file, request.scope)
        response.headers.update(headers)
        return response

    return show
