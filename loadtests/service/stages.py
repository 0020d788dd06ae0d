"""Where the CPU time of a saturated service goes: each stage's share.

    python -m loadtests.service.stages [--requests-of 512] [--out FILE]

Images and captions are all new, encodings not kept, one compute thread. Loads: 64 clients of one item and 4 clients of
32, with ViT-B/32 (random weights), and 64 clients of one item with the embedded network. CPU time is the system's own
count for each thread of the gateway and each process around it. Python's threads are sampled meanwhile by py-spy, and
their time divided among the stages that they were seen in; so shares between threads are exact, those within one are
estimates. Sampling needs root, or the capability SYS_PTRACE.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import psutil

from loadtests.service.faults import GATEWAY, living
from loadtests.service.images import forms
from loadtests.service.load_generators import send_rest
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report, table
from loadtests.service.running import NOTHING_KEPT, Running, processes, running, workplace
from loadtests.service.stacks import Samples, sampling

EMBEDDED = "scorers: {clipscore: {}}\n"
ENVIRONMENT = NOTHING_KEPT | {"PLUMBLINE_REPLICAS__COMPUTE_THREADS": "1"}
HAPROXY, AROUND, INSIDE = "HAProxy", "Ray's own processes", "Ray's threads in the gateway"
Seconds: TypeAlias = Counter[Any]
"""CPU seconds by whoever spent them; a difference of two leaves out who spent none."""


@dataclass(frozen=True)
class Load:
    """What clients ask for, all at once."""

    network: str
    num_clients: int
    num_items: int
    """A request."""

    @property
    def name(self) -> str:
        """For the head of a table."""
        return f"{self.network}, {self.num_clients} x {self.num_items}"


@dataclass(frozen=True)
class StageSeconds:
    """What a load took."""

    cpu_ms: float
    """An item, summed over all processes of the service."""
    shares: Mapping[str, float]
    """Of it, by stage; they add up to 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the CPU time of a saturated service goes.")
    parser.add_argument("--requests-of", type=int, default=512, help="items, in all requests of a load together")
    add_out(parser)
    options = parser.parse_args()
    found: dict[str, StageSeconds] = {}
    with workplace() as folder:
        config, _ = write_config(folder)
        large = config.read_text(encoding="utf-8")
        for text, loads in (
            (large, [Load("ViT-B/32", 64, 1), Load("ViT-B/32", 4, 32)]),
            (EMBEDDED, [Load("mini-clip", 64, 1)]),
        ):
            with running(text, ENVIRONMENT) as service:
                found |= {load.name: measure(service, load, options.requests_of) for load in loads}
    report({"loads": {name: asdict(stage_seconds) for name, stage_seconds in found.items()}}, out=options.out)
    print(show(found))


def measure(service: Running, load: Load, num_items: int) -> StageSeconds:
    """Send requests of as many items, and see where the time goes."""
    num_requests = max(num_items // load.num_items, load.num_clients)
    bodies = forms(load.num_items, is_new=True)
    [gateway] = map(psutil.Process, living(service.pid, GATEWAY))
    asyncio.run(
        send_rest(service.port, bodies, num_requests=load.num_clients, num_clients=load.num_clients)  # warms up
    )
    around, inside = around_s(service.pid, gateway), thread_s(gateway)
    with sampling(gateway.pid) as samples:
        asyncio.run(send_rest(service.port, bodies, num_requests=num_requests, num_clients=load.num_clients))
        around, inside = around_s(service.pid, gateway) - around, thread_s(gateway) - inside
    stages = divide(inside, samples)
    for (_, stage), seconds in around.items():
        stages[stage] += seconds
    total = stages.total()
    shares = {stage: seconds / total for stage, seconds in stages.most_common()}
    return StageSeconds(total / (num_requests * load.num_items) * 1000, shares)


def divide(threads: Mapping[Any, float], samples: Samples) -> Seconds:
    """Seconds of threads by stage, in proportion to each thread's samples; Ray's own, in C++, have none."""
    found = Seconds()
    for task, seconds in threads.items():
        seen = samples.get(task) or {INSIDE: 1}
        for stage, num_samples in seen.items():
            portion: Any = seconds * num_samples / sum(seen.values())  # counters are typed as of whole numbers
            found[stage] += portion
    return found


def around_s(pid: int, gateway: psutil.Process) -> Seconds:
    """CPU seconds so far of processes around the gateway, by process and stage; HAProxy starts new ones at times."""
    found = Seconds()
    for process in processes(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            stage = HAPROXY if process.name() == "haproxy" else AROUND
            if process.pid != gateway.pid:
                found[process.pid, stage] = times.user + times.system
    return found


def thread_s(process: psutil.Process) -> Seconds:
    """CPU seconds so far, by thread."""
    return Seconds({thread.id: thread.user_time + thread.system_time for thread in process.threads()})


def show(found: Mapping[str, StageSeconds]) -> str:
    """Stages by load, the largest first."""
    stages = dict.fromkeys(stage for stage_seconds in found.values() for stage in stage_seconds.shares)
    rows = [
        [stage, *(f"{stage_seconds.shares.get(stage, 0.0):.1%}" for stage_seconds in found.values())]
        for stage in stages
    ]
    return table(
        ["share of the service's CPU time", *found],
        [*rows, ["CPU ms an item", *(f"{stage_seconds.cpu_ms:.1f}" for stage_seconds in found.values())]],
    )


if __name__ == "__main__":
    main()
