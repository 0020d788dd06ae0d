"""What replies tell browsers: not to guess, frame, keep or leak them, and whose pages may read them."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from starlette.datastructures import Headers

from plumbline_serve.settings import Settings
from plumbline_wire import REQUEST_ID_KEY

RawHeader: TypeAlias = tuple[bytes, bytes]

SAFE: Sequence[RawHeader] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""What a reply has unless it says otherwise itself, as pages do."""
_HSTS: RawHeader = (b"strict-transport-security", b"max-age=31536000")  # a year, as browsers' own lists ask for
_EXPOSED = ", ".join((REQUEST_ID_KEY, "retry-after", "ratelimit", "ratelimit-policy")).encode()
_TAKEN = ", ".join(("authorization", "content-type", REQUEST_ID_KEY, "x-request-timeout-seconds"))
_PREFLIGHT = {
    "access-control-allow-methods": "GET, HEAD, POST, DELETE",
    "access-control-allow-headers": _TAKEN,
    "access-control-max-age": "600",
}


class Browsers:
    """The headers of all replies.

    Pages of other origins never call with a browser's own credentials: keys are sent by name, and there are no cookies.

    Args:
        settings: Which origins, and whether there is TLS.
    """

    def __init__(self, settings: Settings) -> None:
        self._origins = frozenset(settings.edge.cors_origins)
        self._always = (*SAFE, _HSTS) if settings.tls.cert else SAFE

    def preflight(self, method: str, headers: Headers) -> dict[str, str] | None:
        """Headers of the reply to a browser that asks before it calls; None: it is not allowed to, or does not ask.

        Args:
            method: Of the request.
            headers: Of the request.
        """
        is_asked = method == "OPTIONS" and "access-control-request-method" in headers
        return _PREFLIGHT if is_asked and headers.get("origin") in self._origins else None

    def headers(self, origin: str | None, given: Iterable[RawHeader]) -> list[RawHeader]:
        """What a reply has beside its own headers.

        Args:
            origin: Of the page that calls, as its browser says.
            given: The reply's own.
        """
        names = {name for name, _ in given}
        added = [header for header in self._always if header[0] not in names]
        if self._origins:
            added.append((b"vary", b"origin"))
            if origin is not None and origin in self._origins:
                added += [
                    (b"access-control-allow-origin", origin.encode()),
                    (b"access-control-expose-headers", _EXPOSED),
                ]
        return added
