"""A gateway's watch over drift, as a process of its own: it does what standard input says, one line at a time.

The first line is the store's address, the argument the process's name. After that
`give NUM MEAN` counts scores, `on` moves its clock on by a slice, `flush` keeps them, `look` prints what is said.
"""

import asyncio
import json
import sys
from collections.abc import Mapping

import numpy as np
from pydantic import SecretStr

from plumbline_models.images.image_statistics import ImageStatistics
from plumbline_serve.drift import DriftMonitor, KeptCounts, LiveWindows, Reference, Slices
from plumbline_serve.drift.live import NUM_SLICES
from plumbline_serve.store import Artefact, Binding, Store

WINDOW_S = 600.0
BEGIN_S = 1_800_000_000.0
BOUND = Binding("imagereward", "ab12", {"scale": "1"})


def reference(mean: float = 0.0, seed: int = 0) -> Artefact:
    values = np.random.default_rng(seed).normal(mean, 1.0, 5000).tolist()
    found = Reference.of_values(values, are_probabilities=False)
    return Artefact("reference", BOUND.scorer, BOUND, found.document())


class Watcher:
    """One process's part."""

    def __init__(self, url: SecretStr, process: str) -> None:
        self.now = BEGIN_S
        self.store = Store(url)
        self.process = process
        self.rng = np.random.default_rng(list(process.encode()))
        self.windows = LiveWindows(WINDOW_S, clock=lambda: self.now)
        kept = KeptCounts(self.store, self.windows, process=process, window_s=WINDOW_S)
        self.monitor = DriftMonitor(
            self.references, self.gather, window_s=WINDOW_S, kept=kept, clock=lambda: self.now
        )  # fmt: skip

    async def references(self) -> Mapping[str, Reference]:
        return {each.name: Reference.of_artefact(each) for each in await self.store.all_of("reference")}

    async def gather(self) -> Mapping[str, Slices]:
        return {self.process: self.windows.slices()}

    def give(self, num: int, mean: float = 0.0) -> None:
        for value in self.rng.normal(mean, 1.0, num).tolist():
            self.windows.scored(BOUND.scorer, value, ImageStatistics(0.5, value, 0.25))

    def go_on(self) -> None:
        self.now += WINDOW_S / NUM_SLICES


async def main(process: str) -> None:
    watcher = Watcher(SecretStr(sys.stdin.readline().strip()), process)
    while line := await asyncio.to_thread(sys.stdin.readline):
        said: dict[str, float] = {}
        match line.split():
            case ["give", num, mean]:
                watcher.give(int(num), float(mean))
            case ["on"]:
                watcher.go_on()
            case ["flush"]:
                await watcher.monitor.flush()
            case ["look"]:
                entry = (await watcher.monitor.look())[BOUND.scorer]
                said = {"m": entry.m, "e_value": entry.e_value}
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
