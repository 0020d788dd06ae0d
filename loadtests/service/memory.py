"""How much memory a service's processes hold, and the most that they held since they were last asked (Linux)."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from loadtests.service.running import processes

MIB = 2**20
_RESET_PEAK = "5"  # proc(5), clear_refs: the peak of the resident set becomes what is resident now


class Memory:
    """Of a process and all that it started, directly or not.

    Peaks are summed over processes, which may have had theirs at different moments: the sum is an upper bound. Pages
    that processes share are counted once in `held_mib` and once a process in peaks, so that only differences of peaks
    say something.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def held_mib(self) -> float:
        """Proportional set size: shared pages are divided among those who share them."""
        return sum(_kib(process.pid, "smaps_rollup", "Pss") for process in processes(self._pid)) * 1024 / MIB

    def start_peak(self) -> None:
        """Forget the peaks so far."""
        for process in processes(self._pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                Path(f"/proc/{process.pid}/clear_refs").write_text(_RESET_PEAK, encoding="utf-8")

    def peak_mib(self) -> float:
        """The most that was resident since `start_peak`."""
        return sum(_kib(process.pid, "status", "VmHWM") for process in processes(self._pid)) * 1024 / MIB


def anonymous_mib(pid: int) -> float:
    """Heap and stacks of a process: unlike its share of libraries, the same whatever else runs on the machine."""
    return _kib(pid, "status", "RssAnon") * 1024 / MIB


def held_mib(root: int) -> dict[str, float]:
    """Anonymous memory in MiB of a process and all that it started, summed by name."""
    held: defaultdict[str, float] = defaultdict(float)
    for process in processes(root):
        try:
            command = process.cmdline() or [process.name()]
            held[process_name(command)] += anonymous_mib(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile
    return dict(held)


def process_name(command: Sequence[str]) -> str:
    """`ray::ServeReplica:…` without its method, the script or module of an interpreter, else the program's file."""
    parts = [part for part in " ".join(command).split() if not part.startswith("-")]
    chosen = parts[1] if len(parts) > 1 and "python" in Path(parts[0]).name else parts[0]
    return chosen.partition(".")[0] if chosen.startswith("ray::") else Path(chosen).name


def _kib(pid: int, file: str, field: str) -> int:
    """A field of a file of /proc/PID in KiB; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
