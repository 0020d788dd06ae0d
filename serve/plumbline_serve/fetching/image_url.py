"""A URL as text becomes what is connected to and asked for: strictly, so that no two readers of it can disagree."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import idna

from plumbline_models.core.errors import UrlSourceRefusedError
from plumbline_serve.settings.urls import UrlSettings, is_host_name

MAX_URL_CHARS = 8192
HTTPS_PORT = 443
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_URL = re.compile(r"https://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_SENT_AS_THEY_ARE = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """An https URL that images may be fetched from, as far as its text tells."""

    host: str
    """A name in lower case, as DNS has it, or an address."""
    port: int
    target: bytes
    """Path and query, as they are asked for."""

    @property
    def authority(self) -> str:
        """As the header `host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"

    def redirected(self, location: bytes) -> str:
        """The text of the URL that a redirect leads to.

        Raises:
            UrlSourceRefusedError: It cannot be read.
        """
        try:
            return urljoin(f"https://{self.authority}{self.target.decode('ascii')}", location.decode("utf-8"))
        except ValueError as error:
            raise _refused("it cannot be read") from error


def read_url(text: str, settings: UrlSettings) -> ImageUrl:
    """Take a URL apart and hold its host and port against the settings; nothing is resolved yet.

    Args:
        text: As the caller, or a redirect, has it.
        settings: What is allowed.

    Raises:
        UrlSourceRefusedError: Images are not fetched from there.
    """
    if len(text) > MAX_URL_CHARS:
        raise _refused(f"it has more than {MAX_URL_CHARS} characters")
    if _FORBIDDEN.search(text):
        raise _refused("it holds spaces, control characters or backslashes")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise _refused("it does not begin with https://")
    host, port = _read_authority(parts[1])
    if port not in settings.allow_ports:
        raise _refused("its port is not allowed", host=host)
    if not _is_allowed(host, settings.allow_hosts):
        raise _refused("its host is not allowed", host=host)
    return ImageUrl(host, port, _target(parts[2]))


def _read_authority(authority: str) -> tuple[str, int]:
    if "@" in authority:
        raise _refused("it holds a user name or a password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _odd_host()
    return _read_host(parts[1]), int(parts[2]) if parts[2] else HTTPS_PORT


def _read_host(host: str) -> str:
    """A name in lower case and in ASCII, or an address as `ipaddress` writes it."""
    try:
        if host.startswith("["):
            return str(ipaddress.IPv6Address(host[1:-1]))
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
        name = host.lower()
        return name if is_host_name(name) else str(ipaddress.IPv4Address(host))
    except ValueError as error:  # of idna as well
        raise _odd_host() from error


def _is_allowed(host: str, patterns: Iterable[str]) -> bool:
    return any(
        pattern in {"*", host} or (pattern.startswith("*.") and host.endswith(pattern[1:])) for pattern in patterns
    )


def _target(text: str) -> bytes:
    try:
        target = quote(text, safe=_SENT_AS_THEY_ARE).encode("ascii")
    except UnicodeError as error:
        raise _refused("it holds half of a surrogate pair") from error
    return target if target.startswith(b"/") else b"/" + target


def _odd_host() -> UrlSourceRefusedError:
    return _refused("its host is not a name or an address in its usual form")


def _refused(reason: str, **facts: object) -> UrlSourceRefusedError:
    return UrlSourceRefusedError(f"Images are not fetched from this URL: {reason}.", **facts)
