"""The log of the command, of gateways and of encoder replicas: a JSON object a line, or a line of text for people.

A line never holds what callers send: no texts, no keys, no URLs. So URLs are cut out of messages, and what an exception
quotes out of its message, for libraries quote their input.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO, TypeAlias

import orjson

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["json", "text"]

OURS = ("plumbline_serve", "plumbline_models")
"""The loggers that the level is for; others are heard from `warning` on."""
START = '{"time":"'
"""How a JSON line begins."""
_FACTS = "plumbline_facts"
_KNOWN = ("time", "level", "logger", "process", "message", "error", "stack")
_URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*:)//[^\s'\"<>)\]}]+|\bdata:[^\s'\"<>)\]}]+")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", re.DOTALL)
_OMITTED = "…"
MAX_MESSAGE_CHARS = 2000
MAX_FRAMES = 24


def facts(**values: Any) -> dict[str, Any]:
    """What a line says beside its message, as the argument `extra` of a logger; None is left out."""
    return {_FACTS: {name: value for name, value in values.items() if value is not None}}


class JsonFormatter(logging.Formatter):
    """A line is an object: `time`, `level`, `logger`, `process`, `message`, the facts, and `error` with its `stack`.

    Args:
        process: What the process is: `command`, `gateway`, `encoders:NAME`.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return orjson.dumps(_document(record, self._process), default=str).decode()


class TextFormatter(JsonFormatter):
    """The same for people: the facts follow as `name=value`, the stack on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return as_text(_document(record, self._process))


def as_text(document: Mapping[str, Any]) -> str:
    """A line's object as text."""
    known = {name: document.get(name, "") for name in _KNOWN}
    said = [known["time"], str(known["level"]).upper(), known["message"]]
    said += [f"{name}={_plain(value)}" for name, value in document.items() if name not in _KNOWN]
    if known["process"] != "command":
        said.append(f"process={known['process']}")
    if known["error"]:
        said.append(f"error={known['error']}")
    return "\n  ".join((" ".join(map(str, said)), *known["stack"]))


def write_to(stream: TextIO | None, level: LogLevel, form: LogFormat, *, process: str = "command") -> None:
    """Write the log of this process to a stream, and nowhere else.

    Args:
        stream: None: as Python has it where stderr is closed.
        level: From which on our own lines are written.
        form: Of the lines.
        process: As `JsonFormatter` has it.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter(process) if form == "text" else JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: LogLevel) -> None:
    """Write our own lines from this level on."""
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())


def without_urls(text: str) -> str:
    """A text with every URL cut out, at most `MAX_MESSAGE_CHARS` long."""
    return _URL.sub(_OMITTED, text)[:MAX_MESSAGE_CHARS]


def without_quotes(text: str) -> str:
    """A text of a library, such as an exception's message: without URLs, and without what it quotes."""
    return without_urls(_QUOTED.sub(_OMITTED, text))


def described(error: BaseException) -> str:
    """An exception's class and message, and what it says beside it, without what these quote."""
    beside = getattr(error, "facts", None)
    known = [f"{name}={value}" for name, value in beside.items()] if isinstance(beside, Mapping) else []
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    return without_quotes(" ".join((said, *known)))


def _document(record: logging.LogRecord, process: str) -> dict[str, Any]:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document: dict[str, Any] = {
        "time": time,
        "level": record.levelname.lower(),
        "logger": record.name,
        "process": process,
    }
    document["message"] = without_urls(record.getMessage())
    document |= getattr(record, _FACTS, {})
    if record.exc_info and record.exc_info[1] is not None:
        document |= {"error": _causes(record.exc_info[1]), "stack": _frames(record.exc_info[2])}
    return document


def _causes(error: BaseException) -> str:
    said = [described(error)]
    while (cause := error.__cause__) is not None and len(said) < MAX_FRAMES:
        said.append(described(cause))
        error = cause
    return ", from ".join(said)


def _frames(trace: TracebackType | None) -> Sequence[str]:
    """Where it happened, the innermost last; never the values of anything."""
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return orjson.dumps(text).decode() if isinstance(value, str) and (not text or re.search(r"[\s\"=]", text)) else text
