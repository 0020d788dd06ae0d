"""The section `urls` of the settings: which hosts images may be fetched from, and how long that may take."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, IPvAnyNetwork, model_validator

from plumbline_serve.settings.access import Section

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def is_host_name(host: str) -> bool:
    """Whether it is a name of DNS in lower case, and nothing that a resolver would take for an address (`0x7f.1`)."""
    return _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(host) is None


def _host_pattern(pattern: str) -> str:
    try:
        return str(ipaddress.ip_address(pattern))
    except ValueError:
        pattern = pattern.lower()
    if pattern == "*" or is_host_name(pattern.removeprefix("*.")):
        return pattern
    raise ValueError("not a host in ASCII, such as images.example.com, *.example.com, 192.0.2.1 or *")


HostPattern = Annotated[str, AfterValidator(_host_pattern)]
Port = Annotated[int, Field(ge=1, le=65535)]


class UrlSettings(Section):
    """Images that a gateway fetches itself, over https: [urls.md](urls.md)."""

    enabled: bool = False
    """Whether an image may be given by its URL. Needs `allow_hosts`."""
    allow_hosts: tuple[HostPattern, ...] = ()
    """Hosts that images may come from: names, `*.NAME` for every name below one, addresses, or `*` for every public
    host."""
    allow_ports: tuple[Port, ...] = (443,)
    """Ports that images may come from."""
    allow_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks of your own that images may come from although they are not public, such as `10.1.0.0/16`. The metadata
    addresses of clouds stay refused."""
    ca_file: Path | None = None
    """PEM file of the authorities that vouch for hosts. Default: the system's and certifi's."""
    max_redirects: int = Field(default=3, ge=0, le=20)
    """Redirects that are followed for one image. Each is checked as the URL itself."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """Seconds in which one image must be there, redirects included."""
    idle_timeout_s: float = Field(default=5.0, gt=0, le=300)
    """Seconds that a host may take to be connected to, and between two pieces of its reply."""
    max_fetches: int = Field(default=32, ge=1, le=1024)
    """Images that a gateway fetches at a time. Further ones wait."""
    max_fetches_per_request: int = Field(default=8, ge=1, le=1024)
    """Images of one request that are fetched at a time."""
    max_fetches_per_host: int = Field(default=8, ge=1, le=1024)
    """Images that are fetched from one host at a time."""

    @model_validator(mode="after")
    def _names_hosts(self) -> Self:
        if self.enabled and not self.allow_hosts:
            raise ValueError("enabled needs allow_hosts; '*' stands for every public host")
        return self
