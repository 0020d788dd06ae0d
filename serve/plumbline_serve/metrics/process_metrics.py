"""What a process takes of its machine, read when it is asked for."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_STATM = Path("/proc/self/statm")
"""Sizes in pages; the second is what is in memory (proc(5))."""


class ProcessMetrics:
    """CPU time and memory of this process, for a registry.

    Args:
        process: What it is: `gateway`, or the name of its encoder group.
    """

    def __init__(self, process: str) -> None:
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """Both, as they are now."""
        taken_s = CounterMetricFamily("plumbline_process_cpu_seconds", "CPU time of processes.", labels=["process"])
        taken_s.add_metric([self._process], time.process_time())
        yield taken_s
        held = GaugeMetricFamily("plumbline_process_memory_bytes", "Memory of processes, resident.", labels=["process"])
        if (num_bytes := _resident_bytes()) is not None:
            held.add_metric([self._process], num_bytes)
        yield held


def _resident_bytes() -> int | None:
    """None where the system does not say it so."""
    try:
        num_pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return num_pages * os.sysconf("SC_PAGE_SIZE")
