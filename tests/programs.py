"""Python programs that tests start, and what runs below this process."""

import os
import sys
from contextlib import suppress

import psutil


def program_environment(**variables: str) -> dict[str, str]:
    """This process's environment, with all that it can import importable for the program too."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}


def children(word: str) -> list[psutil.Process]:
    """Processes that this one started and whose command has the word; those that ended have none."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # a ZombieProcess is one
            found += [child] if word in " ".join(child.cmdline()) else []
    return found


def unreaped() -> dict[int, str]:
    """Names of processes that this one started, that ended, and that it has not waited for, by their ids."""
    found = {}
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                found[child.pid] = child.name()
    return found
