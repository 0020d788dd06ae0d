"""Where a service answers, checked when a client is made: a wrong address would look like a service that is away."""

import re

import httpx

from plumbline_client.errors import UsageError

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_GRPC_NAME = re.compile(r"(?:dns|unix|unix-abstract|vsock|ipv4|ipv6|xds):.+")
_HOST_AND_PORT = re.compile(r"(?:[^\s:/@\[\]]+|\[[0-9a-fA-F:.]+(?:%\w+)?\]):(\d{1,5})", re.ASCII)
_GRPC_OVER_TLS = "grpcs://"
_MAX_PORT = 65535


def base_url(address: str) -> str:
    """Read the address of a REST service; without a scheme it is taken for `http://`.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(address, str):
        raise UsageError("The base URL must be a text, such as http://localhost:8000.")
    named = address.strip()
    url = named if _SCHEME.match(named) else f"http://{named}"
    wrong = f"{shown(address)!r} is not the base URL of a service, such as http://localhost:8000"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{wrong}: {str(error).rstrip('.')}.") from None
    if parsed.scheme not in {"http", "https"}:
        raise UsageError(f"{wrong}: its scheme is neither http nor https.")
    if not parsed.host or re.search(r"\s", url):
        raise UsageError(f"{wrong}: it {'holds spaces' if parsed.host else 'names no host'}.")
    if parsed.port is not None and not 0 < parsed.port <= _MAX_PORT:
        raise UsageError(f"{wrong}: there is no port {parsed.port}.")
    if parsed.query or parsed.fragment or "?" in url:
        raise UsageError(f"{wrong}: nothing may follow the path.")
    return url.rstrip("/")


def grpc_target(address: str) -> str:
    """Read the address of a gRPC service: `host:port`, or a name of gRPC's own such as `dns:///host:9000`.

    With TLS it may be `grpcs://host:port`.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(address, str):
        raise UsageError("The gRPC target must be a text, such as localhost:9000.")
    target = address.strip().removeprefix(_GRPC_OVER_TLS)
    if _GRPC_NAME.fullmatch(target):
        return target
    if _SCHEME.match(target):
        raise UsageError(f"{shown(address)!r} is no gRPC target, which is host:port without http://.")
    match = _HOST_AND_PORT.fullmatch(target)
    if match is None or not 0 < int(match[1]) <= _MAX_PORT:
        raise UsageError(f"{shown(address)!r} is no gRPC target, which is host:port, such as localhost:9000.")
    return target


def is_grpc_over_tls(address: str) -> bool:
    """Whether the address says so."""
    return address.strip().startswith(_GRPC_OVER_TLS)


def shown(address: str) -> str:
    """The address without a user name and password."""
    return re.sub(r"^([^/?#]*//)?[^/?#]*@", lambda match: match[1] or "", address)
