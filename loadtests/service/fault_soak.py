"""Half an hour of faults: every process of a service is killed or stopped in turn, under load that checks every answer.

    python -m loadtests.service.soak --faults [--minutes 30] [--out report.md]

Where the service ends by design, as it does without Ray's own processes, it is started again on the same ports, as
systemd or Kubernetes would do it. Callers use the client library with retries. The report is Markdown: each fault with
what it cost, errors by kind, lost answers, memory by process.
"""

import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, zip_longest
from pathlib import Path

from loadtests.service.checked_load import CheckedLoad, Counts, away_s, rate_per_s
from loadtests.service.faults import ENDING, HEALING, Fault, wait_until_replaced
from loadtests.service.memory import held_mib
from loadtests.service.report import table
from loadtests.service.running import Running, becomes_ready, started, stopping
from plumbline_serve.machine.ports import free_ports

CONFIG = "scorers: {clipscore: {}, qualiclip: {}}\n"
PERIOD_S = 45.0  # from one fault to the next
BEFORE_S = 10.0  # from which the rate before a fault is taken
NUM_CALLERS = 8
MACHINE = (
    "{}, Linux {}, {} callers in a closed loop over REST and gRPC through the client library, all images new. "
    "The service is started again where it ends by design."
)
ANSWERS = "{:,} answers, each compared with the scores before the first fault: **{} wrong, {} lost, {} items failed**."
FAULTS = tuple(fault for pair in zip_longest(HEALING, ENDING) for fault in pair if fault is not None)


@dataclass(frozen=True)
class Struck:
    """A fault, and what it cost."""

    fault: Fault
    second: float
    """Since the start."""
    at: float
    """On the monotonic clock."""
    said: str
    """What the command gave as cause; empty where it lived on."""


@dataclass
class Report:
    """What one run has seen."""

    minutes: float
    struck: list[Struck] = field(default_factory=list)
    held_mib: list[Mapping[str, float]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


class Supervised:
    """A service that is started again when it ends, on the same ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._grpc_port = free_ports(2)
        self._begin()

    def _begin(self) -> None:
        self._process = started(self._folder, CONFIG, {}, ports=(self._port, self._grpc_port))
        if not becomes_ready(self._process):
            raise RuntimeError(self._log()[-2000:])

    @property
    def running(self) -> Running:
        """As it runs at this moment."""
        return Running(self._process.pid, self._port, self._grpc_port)

    def strike(self, fault: Fault) -> str:
        """Inject a fault, and wait until what it struck is there again.

        Returns:
            What the command gave as cause where it ended; else nothing.
        """
        pids = fault.inject(self._process.pid)
        if fault in ENDING:
            self._process.wait()
            said = self._log().strip().splitlines()[-1]
            self._begin()
            return said
        wait_until_replaced(self._process.pid, fault, pids)
        return ""

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Stop it on leaving."""
        try:
            yield
        finally:
            with stopping(self._process):
                pass

    def _log(self) -> str:
        return (self._folder / "stderr.log").read_text(encoding="utf-8")


def soak_with_faults(minutes: float) -> str:
    """Strike a service for some minutes.

    Returns:
        The report, in Markdown.
    """
    found = Report(minutes)
    with tempfile.TemporaryDirectory() as folder:
        service = Supervised(Path(folder))
        with service.lasting():
            running = service.running
            load = CheckedLoad(
                f"http://127.0.0.1:{running.port}", f"127.0.0.1:{running.grpc_port}", num_callers=NUM_CALLERS
            )
            with load:
                found.counts = load.counts
                _strike(service, found)
    return markdown(found)


def _strike(service: Supervised, found: Report) -> None:
    begin = time.monotonic()
    faults = cycle(FAULTS)
    time.sleep(BEFORE_S)
    while (second := time.monotonic() - begin) < found.minutes * 60:
        found.held_mib.append(held_mib(service.running.pid))
        at, fault = time.monotonic(), next(faults)
        found.struck.append(Struck(fault, second, at, service.strike(fault)))
        print(f"{second:6.0f} s  {fault}  {found.struck[-1].said}", flush=True)
        time.sleep(max(BEFORE_S, at + PERIOD_S - time.monotonic()))
    found.held_mib.append(held_mib(service.running.pid))


def markdown(found: Report) -> str:
    """The report.

    Args:
        found: What the run has seen.
    """
    counts = found.counts
    num_lost, num_failed = sum(counts.lost.values()), sum(counts.failed.values())
    return "\n\n".join(
        [
            f"# {found.minutes:g} minutes with {len(found.struck)} faults",
            MACHINE.format(platform.machine(), platform.release(), NUM_CALLERS),
            ANSWERS.format(len(counts.answered_at), len(counts.wrong), num_lost, num_failed),
            "## Faults\n\n" + _faults_table(found),
            "## Attempts that failed and were made again, by error\n\n" + _errors_table(counts.retried),
            "## Anonymous memory, MiB\n\n" + _memory_table(found.held_mib),
        ]
    )


def _faults_table(found: Report) -> str:
    ends = [each.at for each in found.struck[1:]] + [max(found.counts.answered_at, default=0.0)]
    rows = []
    for struck, end in zip(found.struck, ends, strict=True):
        answered_at = [at for at in found.counts.answered_at if struck.at - BEFORE_S <= at <= end]
        before = rate_per_s(answered_at, struck.at - BEFORE_S, struck.at)
        away = away_s(answered_at, struck.at, before_s=BEFORE_S) if answered_at else float("inf")
        rows.append([f"{struck.second:.0f}", str(struck.fault), f"{before:.0f}", f"{away:.0f}", struck.said])
    return table(["second", "fault", "answers/s before", "s until half of that", "the command said"], rows)


def _errors_table(retried: Mapping[str, int]) -> str:
    most_first = sorted(retried.items(), key=lambda each: -each[1])
    return table(["error", "attempts"], [[kind, f"{number:,}"] for kind, number in most_first] or [["none", "0"]])


def _memory_table(held: Sequence[Mapping[str, float]]) -> str:
    names = sorted(held[0].keys() | held[-1].keys(), key=lambda name: -held[-1].get(name, 0.0))
    rows = [[name, f"{held[0].get(name, 0.0):.0f}", f"{held[-1].get(name, 0.0):.0f}"] for name in names]
    total = ["all", f"{sum(held[0].values()):.0f}", f"{sum(held[-1].values()):.0f}"]
    return table(["process", "before the first fault", "at the end"], [total, *rows])
