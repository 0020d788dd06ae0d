"""The pages for people: the playground and the browsable schema, from files in packages, with no network.

Swagger UI comes from `fastapi-offline`, which packs its current release unchanged; its own page is not used, for it
needs inline scripts, and these pages allow none.
"""

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse

_OURS = Path(str(files("plumbline_serve"))) / "playground"
_SWAGGER = Path(str(files("fastapi_offline"))) / "static"

PLAYGROUND_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI sets styles on its elements.
DOCS_POLICY = PLAYGROUND_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
CACHE = "no-cache"  # asks each time, with the etag: an upgrade shows at once

PAGES: Mapping[str, tuple[Path, str]] = {
    "/": (_OURS / "index.html", PLAYGROUND_POLICY),
    "/playground.css": (_OURS / "playground.css", PLAYGROUND_POLICY),
    "/playground.js": (_OURS / "playground.js", PLAYGROUND_POLICY),
    "/results.js": (_OURS / "results.js", PLAYGROUND_POLICY),
    "/docs": (_OURS / "docs.html", DOCS_POLICY),
    "/docs.js": (_OURS / "docs.js", DOCS_POLICY),
    "/swagger-ui-bundle.js": (_SWAGGER / "swagger-ui-bundle.js", DOCS_POLICY),
    "/swagger-ui.css": (_SWAGGER / "swagger-ui.css", DOCS_POLICY),
}
"""File and content security policy by path."""


def page(path: str) -> Callable[[Request], Awaitable[FileResponse]]:
    """The handler of one page."""
    file, policy = PAGES[path]
    headers = {"content-security-policy": policy, "cache-control": CACHE, "referrer-policy": "no-referrer"}

    async def show(request: Request) -> FileResponse:
        del request
        return FileResponse(file, headers=headers)

    return show
