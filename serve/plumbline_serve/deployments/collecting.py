"""How often Python looks for reference cycles in the processes that answer."""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 10_000
"""As Ray has it for its own proxies. With Python's 700 a process with 64 requests under way looks about once a request,
which takes a seventh of the event loop's time; requests leave no cycles that hold bodies or images."""


def collect_seldom() -> None:
    """Look for cycles once there are so many new objects."""
    gc.set_threshold(YOUNG_OBJECTS)
