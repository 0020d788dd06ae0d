"""Processes of this machine, read from `/proc`: who started whom, what each is called, and whether it runs."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STATE, _PARENT, _START = 0, 1, 19  # of the fields behind the name: proc(5)
ENDED = "ZX"  # states of processes that nobody has waited for yet


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    parent: int
    state: str
    """A letter: `Z` has ended, `T` was stopped by a signal."""
    started: int
    """Clock ticks since the machine started; with the id it names a process for ever."""

    @property
    def has_ended(self) -> bool:
        """Whether it is only waited for by its parent."""
        return self.state in ENDED


def find(pid: int) -> Process | None:
    """The process of that id; None where there is none."""
    with suppress(OSError, IndexError, ValueError):
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()  # behind a name that may hold anything
        return Process(pid, int(fields[_PARENT]), fields[_STATE], int(fields[_START]))
    return None


def command_line(pid: int) -> str:
    """Its words, or the title that it gave itself; empty where it has ended."""
    with suppress(OSError):
        words = (_PROC / str(pid) / "cmdline").read_bytes()
        return words.decode(errors="replace").replace("\0", " ").strip()
    return ""


def name_of(pid: int) -> str:
    """What a process is called: the title that one of Ray's gave itself, without the method that it runs, or its file.

    Empty where it has ended.
    """
    word = command_line(pid).partition(" ")[0]
    return word.partition(".")[0] if word.startswith("ray::") else Path(word).name


def descendants(root: int) -> dict[int, Process]:
    """Every process below another, those that ended and that nobody waited for among them."""
    found: dict[int, Process] = {}
    everyone = _everyone()
    wave = {root}
    while wave := {pid for pid, process in everyone.items() if process.parent in wave}:
        found |= {pid: everyone[pid] for pid in wave}
    return found


def send(pid: int, number: int) -> None:
    """Send a signal; nothing happens where the process has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _everyone() -> Mapping[int, Process]:
    pids = (int(entry.name) for entry in _PROC.glob("[0-9]*"))
    return {process.pid: process for pid in pids if (process := find(pid)) is not None}
