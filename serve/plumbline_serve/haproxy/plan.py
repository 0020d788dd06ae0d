"""The HAProxy that Ray starts in front: its limits, its words, and the launcher that puts both into its configuration.

Ray lets a caller take an hour over the head of a request, has one limit of connections for both ports, and binds
HAProxy's own pages to every interface. While no gateway is up it sends callers to a Python proxy that keeps them
waiting, and answers 404 or 500 in plain text where that is not there either. Here a slow head is ended, no address
takes all connections, a gateway gets no more requests than it has places for, probes pass those who wait, callers get
the service's own problem with 503 and `Retry-After`, and HAProxy alone listens to other machines.

Ray's own routes, which tell what is deployed and need no key, are answered as any that is not there.

HAProxy also says when it took a request (`received`), so that time spent waiting for a place counts.
"""

import json
import resource
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from plumbline_models.core.errors import MethodNotAllowedError, NotReadyError, PlumblineError, RouteNotFoundError
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.received import RECEIVED
from plumbline_serve.edge.rest.browsers import Browsers
from plumbline_serve.haproxy import rewriting
from plumbline_serve.haproxy.on_cluster import find_binary
from plumbline_serve.haproxy.tls import GRPC_PROTOCOLS, REST_PROTOCOLS, bind_words, local_front
from plumbline_serve.settings import Limits, Settings

LOOPBACK = "127.0.0.1"
RETRY_AFTER_S = 5.0
NOBODY_THERE = (
    "No gateway of the service can take the request at this moment: it is starting, replaces one that failed, or has "
    "as much to do as it may."
)

NO_SUCH_ROUTE = "There is no such route."
NO_SUCH_METHOD = "No route has this method."
METHODS = "DELETE, GET, HEAD, OPTIONS, POST"
PASSED_ON = "DELETE GET HEAD OPTIONS POST CONNECT PATCH PUT TRACE"
"""To gateways, which refuse what a route has not; they take other methods for no HTTP."""
_UNNAMED = "!{ res.hdr(x-request-id) -m found }"
REQUEST_IDS = (
    "http-request set-var(txn.id) req.hdr(x-request-id) if { req.hdr(x-request-id) -m reg '^[ -~]{1,128}$' }",
    f"http-after-response set-header x-request-id %[var(txn.id)] if {_UNNAMED} {{ var(txn.id) -m found }}",
    f"http-after-response set-header x-request-id %[uuid] if {_UNNAMED}",
)
"""An answer of HAProxy's own names the request as its caller does, where that can be used, or anew."""
RAYS_PATHS = "/-/"
"""What Ray's routes of REST begin with, once the path is decoded: its servers decode it too."""
RAYS_METHODS = "/ray."
"""The same of gRPC, which decodes nothing."""
RATE_WINDOW_S = 10
SOURCE = "src,ipmask(32,64)"
"""Whom connections are counted for: one address, or the network of 2**64 that a host with IPv6 has to itself."""

REST_PLACES, GRPC_PLACES = 768, 512
"""Requests that one gateway is given at a time; further ones wait for `QUEUE_S`."""
WATCH_PLACES = 64
"""The same of calls that last as long as their callers like and ask for no key: who watches whether the service serves,
and who reads its schema. Such wait for each other alone."""
PROBE_PLACES = 64
"""The same of probes, for each wire, in addition."""
GIVEN_UP = "on-marked-down shutdown-sessions"
"""Callers of a gateway that does not answer HAProxy's checks any more are told, not kept."""
QUEUE_S = 2
HEAD_S, IDLE_S, CLIENT_S = 10, 30, 60
GRPC_IDLE_S = 300
"""How long a connection without a call is kept; clients open another without being told."""
LONGEST_S = 3600
"""How long an answer may be under way without a byte, and a stream without a message."""
SMALL_BYTES_A_SECOND = 4096
"""What a call of health checking or reflection may send: gRPC holds a message until it is whole, and nothing counts
those. They have a few dozen bytes."""
DETACHED = "option clitcpka", "clitcpka-idle 30s", "clitcpka-intvl 10s", "clitcpka-cnt 3"
"""Notices within a minute that a caller's machine is gone."""
REST, GRPC = "rest", "grpc"
"""Names of the two sockets for this user, where the ports ask for TLS."""
LOG_FORMAT = 'log-format "%ci:%cp %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %HM %HP"'
"""What goes to a syslog on this machine, where there is one: no query of an address, which may hold a secret."""
_GRPC_UNKNOWN = f"status 200 content-type application/grpc hdr grpc-status {grpc.StatusCode.UNIMPLEMENTED.value[0]}"
"""The answer to a method that is not there, as gRPC's servers give it."""
FAILURES = (502, 503, 504)
"""HAProxy's own: a gateway is away, broke off, or has no place."""
SPARE_CONNECTIONS = 64  # for HAProxy's own pages
SPARE_DESCRIPTORS = 256
DESCRIPTORS_EACH = 2.5
"""Of a connection: one to the caller, one to a gateway, and a pipe for every fourth, as Ray has it splice."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests that have places of their own at a gateway."""

    name: str
    condition: str
    """By which they are known."""
    server: str
    """What is said of a gateway."""
    backend: Sequence[str] = ()
    """Set in place of what Ray has."""


@dataclass(frozen=True, slots=True)
class Front:
    """How callers of one wire are let in, in HAProxy's words; `rewriting` applies it."""

    port: int
    bind: str
    rules: Sequence[str]
    """Of the frontend; what follows is set in place of what Ray has."""
    frontend: Sequence[str]
    backend: Sequence[str]
    lanes: Sequence[Lane]
    server: str
    """What is said of a gateway, which may be given so many requests; those of lanes come in addition."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What Ray's configuration is rewritten by."""

    # named as HAProxy's sections are
    globals: Sequence[str]
    defaults: Sequence[str]
    fronts: Sequence[Front]
    pages: Sequence[int]
    """HAProxy's own, for this machine alone."""

    def as_json(self) -> str:
        """For `rewriting`."""
        return json.dumps(asdict(self), indent=1)


def write_launcher(folder: Path, settings: Settings, pages: Sequence[int]) -> Path | None:
    """A program that edits the configuration named after `-f`, and then becomes HAProxy.

    Args:
        folder: For the program and its files.
        settings: Where HAProxy listens, and how many it lets in.
        pages: Ports of HAProxy's own pages.

    Returns:
        Where it is; None where there is no HAProxy that it could start.
    """
    binary = find_binary()
    if binary is None:
        return None
    plan = folder / "haproxy.json"
    plan.write_text(make_plan(folder, settings, pages).as_json(), encoding="utf-8")
    launcher = folder / "haproxy"
    command = [sys.executable, "-I", "-S", rewriting.__file__, str(plan), binary]
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    launcher.chmod(0o700)
    return launcher


def make_plan(folder: Path, settings: Settings, pages: Sequence[int]) -> Plan:
    """What the launcher has HAProxy do; writes the answers that HAProxy gives by itself.

    Args:
        folder: For the answers.
        settings: Where HAProxy listens, and how many it lets in.
        pages: Ports of HAProxy's own pages.
    """
    error = NotReadyError(NOBODY_THERE, retry_after_s=RETRY_AFTER_S)
    unavailable = _write_answer(folder, error, Browsers(settings))
    rest, rpcs = _connections(settings)
    defaults = [
        *(f"errorfile {status} {unavailable}" for status in FAILURES),
        f"timeout http-request {HEAD_S}s",
        f"timeout http-keep-alive {IDLE_S}s",
        f"timeout client {CLIENT_S}s",
        f"timeout server {LONGEST_S}s",
        f"timeout queue {QUEUE_S}s",
        LOG_FORMAT,
        *DETACHED,
        rewriting.UNSPLICED,
    ]
    fronts = [_rest(settings, rest, folder), _grpc(settings, rpcs, folder)]
    return Plan([f"maxconn {rest + rpcs + SPARE_CONNECTIONS}"], defaults, fronts, pages)


def _rest(settings: Settings, max_connections: int, folder: Path) -> Front:
    unknown = _write_answer(folder, RouteNotFoundError(NO_SUCH_ROUTE), Browsers(settings))
    no_method = _write_answer(folder, MethodNotAllowedError(NO_SUCH_METHOD, allow=METHODS), Browsers(settings))
    return Front(
        port=settings.port,
        bind=f"{_address(settings, settings.port)} {bind_words(settings.tls, folder, REST_PROTOCOLS)}".strip(),
        rules=[
            *_local(settings, folder, REST, ""),
            *REQUEST_IDS,
            *_admission(max_connections, settings.limits),
            f"http-request return status 404 errorfile {unknown} if {{ path,url_dec -i -m beg {RAYS_PATHS} }}",
            f"http-request return status 405 errorfile {no_method} unless {{ method {PASSED_ON} }}",
        ],
        frontend=[],
        backend=[f"timeout http-keep-alive {IDLE_S}s"],
        lanes=[_probes("path /livez /readyz /metrics")],
        server=_given(REST_PLACES),
    )


def _grpc(settings: Settings, max_connections: int, folder: Path) -> Front:
    unavailable = _write_grpc_answer(folder)
    answers = [f"errorfile {status} {unavailable}" for status in FAILURES]
    tls = bind_words(settings.tls, folder, GRPC_PROTOCOLS)
    return Front(
        port=settings.grpc_port,
        bind=f"{_address(settings, settings.grpc_port)} {tls} proto h2".replace("  ", " "),
        rules=[
            *_local(settings, folder, GRPC, " proto h2"),
            *_admission(max_connections, settings.limits),
            f"http-request return {_GRPC_UNKNOWN} if {{ path_beg {RAYS_METHODS} }}",
            "http-request del-header application",  # Ray refuses names of applications that it does not know by itself
            f"filter bwlim-in small default-limit {SMALL_BYTES_A_SECOND} default-period 1s",
            "http-request set-bandwidth-limit small if { path_beg /grpc.health.v1. /grpc.reflection. }",
            *rewriting.GRPC_RULES,
        ],
        frontend=[*answers, f"timeout client {LONGEST_S}s", f"timeout http-keep-alive {GRPC_IDLE_S}s"],
        backend=answers,
        lanes=[
            _probes("path /grpc.health.v1.Health/Check"),
            Lane("watches", "path_beg /grpc.health.v1.Health/Watch /grpc.reflection.", _given(WATCH_PLACES)),
            Lane(**rewriting.STREAMS),
        ],
        server=_given(GRPC_PLACES),
    )


def _probes(condition: str) -> Lane:
    """Those that must be answered while others wait for a place."""
    return Lane("probes", condition, _given(PROBE_PLACES))


def _given(num_places: int) -> str:
    """What is said of a gateway that is given so many requests at a time."""
    return f"maxconn {num_places} {GIVEN_UP}"


def _local(settings: Settings, folder: Path, wire: str, protocol: str) -> list[str]:
    """A way in for this user alone where the port asks for TLS, and maybe for a certificate."""
    return [f"bind unix@{local_front(folder, wire)} mode 600{protocol}"] if settings.tls.cert else []


def _admission(max_connections: int, limits: Limits) -> list[str]:
    """Who is let in, and since when: the caller's own word for that is overwritten."""
    bounds = {"conn_cur": limits.max_connections_per_address, "conn_rate": limits.max_new_connections_per_address}
    counted = [
        f"stick-table type ipv6 size 64k expire 1m store conn_cur,conn_rate({RATE_WINDOW_S}s)",
        f"tcp-request connection track-sc0 {SOURCE}",
    ]
    return [
        f"maxconn {max_connections}",
        *(counted if any(bounds.values()) else []),
        *(f"tcp-request connection reject if {{ sc0_{name} gt {most} }}" for name, most in bounds.items() if most),
        f"http-request set-header {RECEIVED} %[date(0,ms)]",
    ]


def _connections(settings: Settings) -> tuple[int, int]:
    """Connections to each port, fewer where the system gives too few descriptors."""
    wanted = settings.limits.max_connections, max(1, settings.limits.max_connections // 4)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY:
        return wanted
    places = max(2, int((limit - SPARE_DESCRIPTORS) / DESCRIPTORS_EACH) - SPARE_CONNECTIONS)
    part = min(1.0, places / sum(wanted))
    return max(1, int(wanted[0] * part)), max(1, int(wanted[1] * part))


def _address(settings: Settings, port: int) -> str:
    return f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"


def _write_answer(folder: Path, error: PlumblineError, browsers: Browsers) -> Path:
    """What HAProxy answers by itself, as it is sent; returns its file."""
    body = json.dumps(problem(error)).encode()
    headers = http_headers(error) | {
        "content-length": str(len(body)),
        "connection": "close",
    }
    headers |= {name.decode(): value.decode() for name, value in browsers.headers(None, ())}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    file = folder / f"{error.status}.http"
    file.write_bytes(f"HTTP/1.1 {error.status} {error.title}\r\n{lines}\r\n".encode() + body)
    return file


def _write_grpc_answer(folder: Path) -> Path:
    """The same to callers of gRPC: an answer without a body, whose status stands among its headers."""
    code, _ = grpc.StatusCode.UNAVAILABLE.value
    file = folder / "grpc.http"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {code}\r\ngrpc-message: {NOBODY_THERE}"
    file.write_bytes(f"{head}\r\n\r\n".encode())
    return file
