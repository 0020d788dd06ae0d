"""Faults of one process of a running service, by its id."""

import os
import signal
import time
from dataclasses import dataclass

from plumbline_serve.machine.processes import descendants, name_of, send

PAUSE_S = 0.1


@dataclass(frozen=True)
class Fault:
    """A signal to every process of a name."""

    process: str
    """How the name begins, as `processes.name_of` has it."""
    number: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        return f"{self.number.name} of {self.process}"

    def inject(self, root: int) -> frozenset[int]:
        """Send it to processes below another.

        Returns:
            Their ids.

        Raises:
            RuntimeError: There is no such process.
        """
        pids = living(root, self.process)
        if not pids:
            raise RuntimeError(f"There is no process {self.process} below {root}.")
        for pid in pids:
            send(pid, self.number)
        return pids


GATEWAY = "ray::ServeReplica:plumbline:Gateway"
ENCODERS = "ray::ServeReplica:plumbline:encoders"
HEALING = (
    Fault(GATEWAY),
    Fault(GATEWAY, signal.SIGSTOP),
    Fault("haproxy"),
    Fault("haproxy", signal.SIGSTOP),
    Fault("ray::HAProxyManager"),
    Fault("ray::ServeController"),
    Fault("ray::ServeController", signal.SIGSTOP),
)
"""The service lives on, whatever its layout."""
ENDING = (
    Fault("gcs_server"),
    Fault("raylet"),
    Fault("raylet", signal.SIGSTOP),
)
"""The service ends with its cause."""


def living(root: int, name: str) -> frozenset[int]:
    """Processes below another whose name begins so, and that have not ended."""
    return frozenset(
        pid for pid, process in descendants(root).items() if not process.has_ended and name_of(pid).startswith(name)
    )


def wait_until_replaced(root: int, fault: Fault, struck: frozenset[int]) -> None:
    """Wait until none of the processes that were struck is there, and another is; without end where it never is.

    Args:
        root: The service.
        fault: What struck them.
        struck: Their ids.
    """
    while struck & (found := living(root, fault.process)) or not found:
        os.kill(root, 0)  # raises where the service has ended
        time.sleep(PAUSE_S)
