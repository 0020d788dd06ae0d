"""How cost and memory grow: with items, with the size of images, with the length of texts, with replicas.

    python -m loadtests.service.growth [--only items|sizes|texts|replicas] [--rounds 3] [--out FILE]

One client, encodings not kept, limits raised where a step needs it. `items`: the embedded clipscore, requests of 1 to
4096 images and captions, and 4096 as the default limits take them, 16 batches of 256 over one gRPC stream. `sizes`: one
square image a request, JPEG and PNG, 64 px to 4096 px. `texts`: embeddings of 32 texts a request of 3 to 77 tokens, by
ViT-B/32 with random weights. `replicas`: 64 clients of one item each before 1 and 2 gateways that share the cores.

Printed of each step: CPU time of the whole service and wall time an item (medians over rounds, in which steps take
turns), the CPU time over that of the step before, the ratio that is expected to bound it, and the most memory that the
service took beyond what it held when it was ready. What must hold: an item costs no more in a large request than in a
smaller one, an image no more than in proportion to its pixels, a text no more than in proportion to its tokens, and
an item no more before two gateways; each with `SLACK` for what the machine does meanwhile.
"""

import argparse
import asyncio
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.service.images import forms, messages
from loadtests.service.ladders import Step, item_steps, size_steps, text_steps
from loadtests.service.load_generators import send_rest, send_stream
from loadtests.service.memory import Memory
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report, table
from loadtests.service.running import NOTHING_KEPT, Running, divide, running, workplace

EMBEDDED = "scorers: {clipscore: {}}\n"
LIMITS = {
    "PLUMBLINE_LIMITS__MAX_ITEMS": "4096",
    "PLUMBLINE_LIMITS__MAX_IMAGE_BYTES": "64MiB",
    "PLUMBLINE_LIMITS__MAX_REQUEST_BYTES": "256MiB",
}
SLACK = 1.2
STREAMED, BATCH = 4096, 256
NUM_CLIENTS, NUM_REQUESTS = 64, 512


@dataclass(frozen=True)
class Cost:
    """What a step took."""

    name: str
    cpu_ms: float
    """An item, summed over all processes of the service."""
    wall_ms: float
    """An item."""
    peak_mib: float
    """Beyond what the service held when it was ready."""
    bound: float | None = None
    """What the CPU time over that of the step before is expected to stay under; None for a first step."""
    ratio: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether the bound is."""
        return self.bound is None or self.ratio is None or self.ratio <= self.bound


class Meter:
    """Measures one service."""

    def __init__(self, service: Running) -> None:
        self._service, self._memory = service, Memory(service.pid)
        self._memory.start_peak()
        self._ready_mib = self._memory.peak_mib()

    def measure(self, name: str, num_items: int, send_one: Callable[[], float]) -> Cost:
        """Cost of what `send_one` sends; it returns the seconds that it took."""
        self._memory.start_peak()
        cpu_s = self._service.cpu_s()
        seconds = send_one()
        cpu_s = self._service.cpu_s() - cpu_s
        peak_mib = max(0.0, self._memory.peak_mib() - self._ready_mib)
        return Cost(name, cpu_s / num_items * 1000, seconds / num_items * 1000, peak_mib)


def main() -> None:
    parser = argparse.ArgumentParser(description="How cost and memory grow.")
    parser.add_argument("--only", choices=list(LADDERS), nargs="*", default=list(LADDERS))
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    options = parser.parse_args()
    ladders: dict[str, list[Cost]] = {}
    for name in options.only:
        ladders |= LADDERS[name](options.rounds)
    figures = {name: [asdict(cost) | {"is_held": cost.is_held} for cost in costs] for name, costs in ladders.items()}
    report({"slack": SLACK, "ladders": figures}, out=options.out)
    for name, costs in ladders.items():
        print(f"\n{name}\n{show(costs)}")


def items(rounds: int) -> dict[str, list[Cost]]:
    """From 1 item a request to 4096, and as many in a stream."""
    steps = list(item_steps())
    with _ready(EMBEDDED) as (service, meter):
        costs = hold(climb(service, meter, steps, rounds), [SLACK] * (len(steps) - 1))
    batches, name = messages(BATCH, is_new=True), f"{STREAMED} in a stream"
    with _ready(EMBEDDED) as (service, meter):  # another, since allocators keep what the largest step took
        streamed = [meter.measure(name, STREAMED, lambda: _stream(service, batches)) for _ in range(rounds)]
    return {"items": [*costs, middle(streamed)]}


def sizes(rounds: int) -> dict[str, list[Cost]]:
    """Images of 64 to 4096 px."""
    found = {}
    for kind in ("JPEG", "PNG"):
        steps = list(size_steps(kind))
        with _ready(EMBEDDED) as (service, meter):
            found[kind] = hold(climb(service, meter, steps, rounds), proportional(steps))
    return found


def texts(rounds: int) -> dict[str, list[Cost]]:
    """Texts of 3 to 77 tokens."""
    steps = list(text_steps())
    with workplace() as folder:
        config, _ = write_config(folder)
        with _ready(config.read_text(encoding="utf-8")) as (service, meter):
            return {"texts": hold(climb(service, meter, steps, rounds), proportional(steps))}


def replicas(rounds: int) -> dict[str, list[Cost]]:
    """Gateways of one service."""
    costs = []
    for num_gateways in (1, 2):
        bodies = list(itertools.islice(forms(1, is_new=True), NUM_REQUESTS))
        step = Step(f"{num_gateways}", num_gateways, bodies, NUM_REQUESTS)
        with _ready(EMBEDDED, divide(num_gateways)) as (service, meter):
            costs += climb(service, meter, [step], rounds, num_clients=NUM_CLIENTS)
    return {"replicas": hold(costs, [SLACK])}


LADDERS: dict[str, Callable[[int], dict[str, list[Cost]]]] = {
    "items": items,
    "sizes": sizes,
    "texts": texts,
    "replicas": replicas,
}


def climb(service: Running, meter: Meter, steps: Sequence[Step], rounds: int, *, num_clients: int = 1) -> list[Cost]:
    """Medians of each step's costs over rounds, the steps taking turns."""

    def send_one(step: Step) -> float:
        sending = send_rest(
            service.port, iter(step.bodies), num_requests=len(step.bodies), num_clients=num_clients, path=step.path
        )
        return asyncio.run(sending).seconds

    found: dict[str, list[Cost]] = {step.name: [] for step in steps}
    for _ in range(rounds):
        for step in steps:
            found[step.name].append(meter.measure(step.name, step.num_items, lambda: send_one(step)))  # noqa: B023 - at once
    return [middle(costs) for costs in found.values()]


def middle(costs: Sequence[Cost]) -> Cost:
    """Medians; of memory the least, since allocators keep what a larger step took in the round before."""
    return Cost(
        costs[0].name,
        statistics.median(cost.cpu_ms for cost in costs),
        statistics.median(cost.wall_ms for cost in costs),
        min(cost.peak_mib for cost in costs),
    )


def proportional(steps: Sequence[Step]) -> list[float]:
    """Bounds for costs that may grow as sizes do."""
    return [SLACK * after.size / before.size for before, after in itertools.pairwise(steps)]


def hold(costs: Sequence[Cost], bounds: Sequence[float]) -> list[Cost]:
    """Costs with their ratios to the step before, and the bounds of those."""
    held = [costs[0]]
    for (before, after), bound in zip(itertools.pairwise(costs), bounds, strict=True):
        ratio = after.cpu_ms / before.cpu_ms
        held.append(Cost(after.name, after.cpu_ms, after.wall_ms, after.peak_mib, bound=bound, ratio=ratio))
    return held


def show(costs: Sequence[Cost]) -> str:
    """A row a step."""
    rows = []
    for cost in costs:
        figures = [f"{cost.cpu_ms:.2f}", f"{cost.wall_ms:.2f}", f"{cost.peak_mib:.0f}"]
        ratios = ["", ""] if cost.ratio is None else [f"{cost.ratio:.2f}", f"{cost.bound:.2f}"]
        rows.append([cost.name, *figures, *ratios, "" if cost.is_held else "NOT HELD"])
    return table(["step", "CPU ms", "wall ms", "MiB more", "ratio", "bound", ""], rows)


@contextmanager
def _ready(config: str, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Running, Meter]]:
    """A service that keeps nothing, warm, and its meter."""
    with running(config, NOTHING_KEPT | LIMITS | dict(environment or {})) as service:
        asyncio.run(send_rest(service.port, forms(1, is_new=True), num_requests=NUM_CLIENTS, num_clients=NUM_CLIENTS))
        yield service, Meter(service)


def _stream(service: Running, batches: Iterator[Any]) -> float:
    requests = list(itertools.islice(batches, STREAMED // BATCH))
    return asyncio.run(send_stream(service.grpc_port, requests)).seconds


if __name__ == "__main__":
    main()
