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


def page(path: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one page; browsers ask each time, with the etag, so that an upgrade shows at once."""
    folder, file, policy = PAGES[path]
    files = StaticFiles(packages=[folder])
    headers = {"content-security-policy": policy, "cache-control": "no-cache"}

    async def show(request: Request) -> Response:
        response = await files.get_response(file, request.scope)
        response.headers.update(headers)
        return response

    return show
