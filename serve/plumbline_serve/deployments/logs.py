"""Where the log of a replica goes, and where the lines of Ray's processes do.

A replica writes JSON lines to the file in which Ray Serve logs for it and to stderr, within a tenth of a second: Ray
Serve gives handlers to its own logger alone, and for throughput keeps lines back until there are a thousand. Ray
carries what its processes write to `plumbline serve`, which would print it with prefixes and colours, in part on
stdout.
"""

import logging
import re
import sys
from logging.handlers import MemoryHandler
from typing import Any

import orjson
from ray._private import worker as ray_worker
from ray._private.ray_logging import global_worker_stdstream_dispatcher as lines_of_workers

from plumbline_serve.deployments.gathered_lines import GatheredLines
from plumbline_serve.logs import OURS, START, JsonFormatter, LogFormat, LogLevel, as_text, facts, set_level

_RAY_SERVE = "ray.serve"
_RAYS = ("ray", _RAY_SERVE, "ray.data")
_PRINTING = "ray_print_logs"
"""What Ray calls its own printing; it removes what has this name when it stops."""
_OF_RAY = re.compile(
    r"(\x1b\[\d+m)*(\(\w+\) )?"
    r"(\[?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+[: ]+(?P<letter>[DIWEF])|(?P<name>DEBUG|INFO|WARNING|ERROR|CRITICAL)) "
)
"""How lines of Ray's own logs begin, of its C++ and of its Python."""
_ALARMING = frozenset({"E", "F", "ERROR", "CRITICAL"})
_RAYS_OWN = frozenset({"raylet", "gcs_server", "autoscaler", "ServeController"})
"""Ray's own processes, as its log monitor names them: of what they write, all is Ray's."""
log = logging.getLogger(__name__)


def log_as_ray_serve_does(level: LogLevel, process: str) -> None:
    """Have what Plumbline logs written; called in each replica, where Ray Serve is set up.

    Args:
        level: From which on.
        process: What the replica is: `gateway`, `encoders:NAME`.
    """
    kept_back = [each for each in logging.getLogger(_RAY_SERVE).handlers if isinstance(each, MemoryHandler)]
    files = [each.target for each in kept_back if each.target is not None]
    if not files:  # in no replica
        return
    stderr = logging.StreamHandler(sys.__stderr__)  # Ray may have put its own log in the place of `sys.stderr`
    for file in files:
        file.setFormatter(_ByLogger(file.formatter))
    gathered = GatheredLines([*files, stderr])
    gathered.setFormatter(JsonFormatter(process))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [gathered]
        logger.propagate = False
    set_level(level)


class _ByLogger(logging.Formatter):
    """Our lines as they are, and Ray Serve's in its own form, in one file."""

    def __init__(self, others: logging.Formatter | None) -> None:
        super().__init__()
        self._ours = logging.Formatter()
        self._others = others or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return (self._ours if record.name.startswith(OURS) else self._others).format(record)


def relay_lines(form: LogFormat) -> None:
    """Write what Ray's processes and replicas write as lines of our log; called in the command, once Ray has started.

    Args:
        form: Of the lines.
    """

    def relay(data: dict[str, Any], ignore_prefix: object = None) -> None:
        del ignore_prefix
        _relay(data, form)

    ray_worker.print_to_stdstream = relay  # what failed of Ray's own calls it prints by this name, on stdout
    lines_of_workers.remove_handler(_PRINTING)
    lines_of_workers.add_handler(_PRINTING, relay)
    log_as_the_command_does()


def log_as_the_command_does() -> None:
    """Have what Ray logs in this process go where our lines go, from `warning` on."""
    for name in _RAYS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers[:] = []
        logger.propagate = True


def _relay(data: dict[str, Any], form: LogFormat) -> None:
    """Pass lines of one process on.

    Args:
        data: As Ray's log monitor sends them.
        form: Of our own lines.
    """
    process = str(data.get("actor_name") or data.get("pid") or "")
    level = logging.DEBUG
    for line in data.get("lines", ()):
        if line.startswith(START):
            shown = as_text(orjson.loads(line)) if form == "text" else line
            print(shown, file=sys.stderr, flush=True)  # noqa: T201 - a line of our log, from another process
        elif line.strip():
            level = _level(line, otherwise=level if process in _RAYS_OWN else logging.INFO)
            log.log(level, "%s", line.rstrip(), extra=facts(of=process))


def _level(line: str, *, otherwise: int) -> int:
    """Ray's own lines are for those who look for them, but for errors; any other, such as a crash, for everybody.

    Args:
        line: That some process wrote.
        otherwise: The level of a line that no log of Ray's begins so: in Ray's own processes it goes on with the one
            before.
    """
    found = _OF_RAY.match(line)
    if found is None:
        return otherwise
    return logging.WARNING if (found["letter"] or found["name"]) in _ALARMING else logging.DEBUG
