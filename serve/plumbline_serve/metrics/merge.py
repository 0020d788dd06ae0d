"""One exposition for many processes: counters, histograms and queue lengths add up, facts are said once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from plumbline_serve.drift import Slices
from plumbline_serve.metrics.drift_gauges import PREFIX as DRIFT_PREFIX

Labels: TypeAlias = tuple[tuple[str, str], ...]
FACTS = frozenset({"plumbline_model_info", "plumbline_build_info"})
"""Gauges that say what is so: 1, however many processes say it."""


@dataclass(slots=True)
class Family:
    """One metric of one process."""

    kind: str
    documentation: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


Families: TypeAlias = dict[str, Family]
"""By name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metrics of one process at one moment; picklable."""

    process: str
    """Names the process: no two ever have one name."""
    number: int
    """Grows with each snapshot of the process."""
    families: Families
    slices: Slices = field(default_factory=dict)
    """What is counted of scores, to be held against references."""


class LastSnapshots:
    """What each process of a group said last, so that counters do not fall while one is late to answer."""

    def __init__(self) -> None:
        self._last: dict[str, Snapshot] = {}
        """Who answered last stands last."""

    def update(self, answers: Iterable[Snapshot], *, num_late: int) -> list[Snapshot]:
        """The answers, and the last ones of as many others as are late; the rest have gone, and are forgotten.

        Args:
            answers: Of those that were asked, one each.
            num_late: Of those that were asked, how many did not answer.
        """
        answered = {answer.process: answer for answer in answers}
        silent = [last for process, last in self._last.items() if process not in answered]
        late = silent[-num_late:] if num_late else []
        for process, answer in answered.items():
            last = self._last.get(process)
            if last is not None and last.number > answer.number:  # of a scrape that was overtaken by another
                answered[process] = last
        self._last = {each.process: each for each in (*late, *answered.values())}
        return list(self._last.values())


def read_registry(registry: CollectorRegistry) -> Families:
    """Read a registry; the creation times that prometheus-client adds are left out, since they cannot be added up."""
    return {
        metric.name: Family(
            metric.type,
            metric.documentation,
            {
                (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
                for sample in metric.samples
                if not sample.name.endswith("_created")
            },
        )
        for metric in registry.collect()
    }


def exposition(snapshots: Iterable[Snapshot]) -> bytes:
    """The text exposition of all snapshots taken together."""
    merged: Families = {}
    for snapshot in snapshots:
        for name, family in snapshot.families.items():
            into = merged.setdefault(name, Family(family.kind, family.documentation))
            for key, value in family.samples.items():
                known = into.samples.get(key, 0.0)
                into.samples[key] = 1.0 if name in FACTS else max(known, value) if _is_of_all(name) else known + value
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(merged))
    return generate_latest(registry)


def _is_of_all(name: str) -> bool:
    """Whether each process says it of the whole application: they hardly differ, and one of them is shown."""
    return name.startswith(DRIFT_PREFIX)


class _Merged:
    def __init__(self, merged: Families) -> None:
        self._merged = merged

    def collect(self) -> Iterator[Metric]:
        for name, family in sorted(self._merged.items()):
            metric = Metric(name, family.documentation, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
