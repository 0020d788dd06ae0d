"""Clocks that jump decide nothing: what is measured or waited for is on the monotonic clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    ROOT / "serve" / "plumbline_serve",
    ROOT / "models" / "plumbline_models",
    ROOT / "clients" / "plumbline_client",
]
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
ALLOWED = {
    "app.py": "which of two configurations was deployed later, on whatever machine; minutes and more lie between",
    "artefacts.py": "when a calibration, a reference, a classifier or a guard was made, for people",
    "batches.py": "spans are told to others in the time of day; how long they took is monotonic",
    "engine_store.py": "ages of files, whose times are the wall clock's; under a lock that no builder holds",
    "keys_file.py": "keys expire at a date",
    "keys_command.py": "keys expire at a date",
    "live.py": "windows of drift are the same hours in each gateway and after a restart",
    "monitor.py": "the same",
    "openai.py": "OpenAI's list says when a model was made",
    "received.py": "HAProxy says at which time it took a request; a wait that cannot be is none",
    "redeploy.py": "which of two configurations was deployed later, as in app.py",
    "rest_wire.py": "Retry-After may be a date; seconds are the rule",
    "run.py": "which of two configurations was deployed later, as in app.py",
    "watching.py": "which windows a reference is made of",
}


def readers_of_the_wall_clock() -> Iterator[str]:
    for folder in SOURCES:
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in WALL:
                        yield path.name


def test_nothing_else_reads_the_wall_clock() -> None:
    assert set(readers_of_the_wall_clock()) == set(ALLOWED)
