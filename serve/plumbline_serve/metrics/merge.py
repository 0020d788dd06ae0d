"""One exposition for many processes: counters, histograms and queue lengths add up, facts are said once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

Labels: TypeAlias = tuple[tuple[str, str], ...]
FACTS = frozenset({"plumbline_model_info", "plumbline_build_info"})
"""Gauges that say what is so: 1, however many processes say it."""


@dataclass(slots=True)
class Family:
    """One metric of one process."""

    kind: str
    documentation: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


Snapshot: TypeAlias = dict[str, Family]
"""All metrics of one process at one moment, by name; picklable."""


def take_snapshot(registry: CollectorRegistry) -> Snapshot:
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
    merged: Snapshot = {}
    for snapshot in snapshots:
        for name, family in snapshot.items():
            into = merged.setdefault(name, Family(family.kind, family.documentation))
            for key, value in family.samples.items():
                into.samples[key] = 1.0 if name in FACTS else into.samples.get(key, 0.0) + value
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(merged))
    return generate_latest(registry)


class _Merged:
    def __init__(self, merged: Snapshot) -> None:
        self._merged = merged

    def collect(self) -> Iterator[Metric]:
        for name, family in sorted(self._merged.items()):
            metric = Metric(name, family.documentation, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
