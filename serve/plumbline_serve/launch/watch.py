"""Whether a running service can go on, seen from outside it: Ray's processes, and whether callers are answered.

Ray starts replicas, HAProxy and its own Serve controller again when they end or do not answer. What it needs itself it
does not start again, and it lives on without some of that as if nothing were missing. So the service ends where one of
those processes does, and also where callers are answered by nobody for longer than starting anew may take.
"""

import csv
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from plumbline_serve.launch.supervisor import Stage
from plumbline_serve.machine.processes import Process, descendants, find, name_of, send

NEVER_BACK = {
    "gcs_server": "Ray's control store (gcs_server)",
    "raylet": "Ray's node manager (raylet)",
}
"""By name of the process: Ray does not start these again."""
BROUGHT_BACK = {
    "ray::ServeController": "Ray's Serve controller",
    "ray::HAProxyManager": "Ray's manager of HAProxy",
}
"""By name of the process: Ray starts these again when they end."""
AWAY_S = 30.0  # that a process which Ray starts again, or an answer, may be away
MAX_START_S = 300.0  # what starting took counts in favour of a replica that starts anew, up to this
STOPPED_S = 10.0  # that a process may stand still by SIGSTOP
PROBE_PERIOD_S, PROBE_TIMEOUT_S = 1.0, 5.0
_OK = 200
_UNIX = "unix:"


class ServiceWatch:
    """Watches the processes below this one, and probes as soon as the service is ready.

    Args:
        probe: Why callers are not answered at this moment; None where they are. It may take its time.
    """

    def __init__(self, probe: Callable[[], str | None]) -> None:
        self._probe = probe
        self._processes = [
            *(_Watched(name, shown, is_brought_back=False) for name, shown in NEVER_BACK.items()),
            *(_Watched(name, shown, is_brought_back=True) for name, shown in BROUGHT_BACK.items()),
        ]
        self._started_at = math.inf
        self._answers: _Answers | None = None

    def look(self, stage: Stage) -> str | None:
        """As `supervisor.Watch.look`."""
        if stage < Stage.STARTED:
            return None
        now = time.monotonic()
        self._started_at = min(self._started_at, now)
        if any(watched.must_be_found for watched in self._processes):
            found = _by_name(os.getpid())
            for watched in self._processes:
                watched.take(found.get(watched.name))
        causes = [cause for watched in self._processes if (cause := watched.look(now)) is not None]
        if stage is Stage.READY:
            if self._answers is None:
                self._answers = _Answers(self._probe, AWAY_S + min(now - self._started_at, MAX_START_S))
            causes += [cause] if (cause := self._answers.look(now)) is not None else []
        return " ".join(causes) or None  # which was first cannot be told: Ray ends some with others


def _by_name(root: int) -> dict[str, Process]:
    """Processes below another by what they are called; the newest where several are called the same."""
    found: dict[str, Process] = {}
    for pid, process in sorted(descendants(root).items()):
        if not process.has_ended:
            found[name_of(pid)] = process
    return found


class _Watched:
    """A process of a certain name, and since when it is away or stands still."""

    def __init__(self, name: str, shown: str, *, is_brought_back: bool) -> None:
        self.name = name
        self._shown = shown
        self._is_brought_back = is_brought_back
        self._process: Process | None = None
        self._has_been_seen = False
        self._away_since: float | None = None
        self._still_since: float | None = None

    @property
    def must_be_found(self) -> bool:
        """Whether it has not been seen yet, or may have been started again."""
        return self._process is None

    def take(self, found: Process | None) -> None:
        """Learn which process of the name there is."""
        if self._process is None and found is not None:
            self._process = found
            self._has_been_seen = True
            self._away_since = None

    def look(self, now: float) -> str | None:
        """Why the service cannot go on; None where it can."""
        if not self._has_been_seen:
            return None
        seen = find(self._process.pid) if self._process is not None else None
        if seen is None or self._process is None or seen.has_ended or seen.started != self._process.started:
            return self._missing(now)
        if seen.state != "T":
            self._still_since = None
            return None
        self._still_since = self._still_since or now
        if now - self._still_since < STOPPED_S:
            return None
        if self._is_brought_back:
            send(seen.pid, signal.SIGKILL)
            return None
        return f"{self._shown} stands still by a signal."

    def _missing(self, now: float) -> str | None:
        self._process = self._still_since = None
        if not self._is_brought_back:
            return f"{self._shown} has ended, and Ray does not start it again."
        self._away_since = self._away_since or now
        if now - self._away_since < AWAY_S:
            return None
        return f"{self._shown} has ended, and Ray has not started it again in {AWAY_S:.0f} s."


class _Answers:
    """Probes on a thread of its own, so that a probe that hangs holds up nobody.

    Args:
        probe: Why callers are not answered at this moment; None where they are.
        max_away_s: How long that may last.
    """

    def __init__(self, probe: Callable[[], str | None], max_away_s: float) -> None:
        self._probe = probe
        self._max_away_s = max_away_s
        self._last_at = time.monotonic()
        self._why = "no probe has come back"
        threading.Thread(target=self._go_on, name="probe", daemon=True).start()

    def look(self, now: float) -> str | None:
        """Why the service cannot go on; None where it can."""
        away_s = now - self._last_at
        if away_s < self._max_away_s:
            return None
        return f"callers were not answered for {away_s:.0f} s: {self._why}."

    def _go_on(self) -> None:
        while True:
            why = self._probe()
            if why is None:
                self._last_at = time.monotonic()
            else:
                self._why = why
            time.sleep(PROBE_PERIOD_S)


@dataclass(frozen=True, slots=True)
class _Gateway:
    """A gateway's server of one protocol, as HAProxy knows it."""

    protocol: str
    address: str
    is_up: bool


def behind_haproxy(admin: Path) -> str | None:
    """Why callers are not answered at this moment; None where they are.

    Asked are HAProxy, by its own socket, and the gateways that it sends callers to, by theirs: what callers are
    answered through the ports that they know depends on how many there are, and a service that is overloaded is not one
    that is dead.

    Args:
        admin: HAProxy's socket, which Ray puts into one more folder for each node.
    """
    gateways = [gateway for path in admin.parent.glob(f"*/{admin.name}") for gateway in _gateways(path)]
    if not gateways:
        return "HAProxy does not answer, or knows no gateway"
    for protocol in ("http", "grpc"):
        if not any(gateway.is_up for gateway in gateways if gateway.protocol == protocol):
            return f"HAProxy finds no gateway that answers over {protocol}"
    if not any(answers_ready(gateway.address) for gateway in gateways if gateway.protocol == "http" and gateway.is_up):
        return "no gateway is ready: see /readyz"
    return None


class _Connection(HTTPConnection):
    """To an address as gRPC names them."""

    def __init__(self, address: str) -> None:
        self._path = address.removeprefix(_UNIX) if address.startswith(_UNIX) else None
        super().__init__(address if self._path is None else "localhost", timeout=PROBE_TIMEOUT_S)

    def connect(self) -> None:
        """As `HTTPConnection.connect`."""
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def answers_ready(address: str) -> bool:
    """Whether `/readyz` is 200 there.

    Args:
        address: As gRPC names them: host and port, or `unix:` and the path of a socket.
    """
    connection = _Connection(address)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _gateways(path: Path) -> Iterator[_Gateway]:
    """Ray names HAProxy's backends after protocol and application, and their servers after replicas."""
    try:
        text = _ask(path, "show stat")
    except OSError:
        return
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        if row["svname"].startswith("SERVE_REPLICA"):
            yield _Gateway(row["pxname"].partition("-")[0], row["addr"], row["status"].startswith("UP"))


def _ask(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(PROBE_TIMEOUT_S)
        admin.connect(str(path))
        admin.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: admin.recv(2**16), b"")).decode(errors="replace")
