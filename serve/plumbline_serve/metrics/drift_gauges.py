"""What is known of drift, as gauges: every gateway says it of the whole application, and it is shown once."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from plumbline_models.decisions.drift import SEVERITIES
from plumbline_serve.messages.drift import DriftEntry

PREFIX: Final = "plumbline_drift_"
_BY_SCORER: Final[Mapping[str, str]] = {
    "psi": "Population stability index of scores beside their reference.",
    "p_value": "How often scores of one law are as far apart.",
    "window_scores": "Scores in the window.",
    "entropy": "Mean entropy of scores that are probabilities, in bits.",
    "e_value": "A bet against no drift.",
    "severity": "0 none, 1 low, 2 medium, 3 high, 4 critical.",
}
_BY_STATISTIC: Final[Mapping[str, str]] = {
    "image_psi": "The index of a statistic of the images.",
    "image_p_value": "The p-value of a statistic of the images.",
}


class DriftMetrics:
    """Gauges of one process.

    Args:
        registry: That they are registered with.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels: Mapping[tuple[str, ...], Mapping[str, str]] = {
            ("scorer",): _BY_SCORER,
            ("scorer", "statistic"): _BY_STATISTIC,
        }
        self._gauges = {
            name: Gauge(f"{PREFIX}{name}", text, each, registry=registry)
            for each, named in labels.items()
            for name, text in named.items()
        }

    def say(self, entries: Mapping[str, DriftEntry]) -> None:
        """Say how things are, and no more of what was before.

        Args:
            entries: By scorer.
        """
        for gauge in self._gauges.values():
            gauge.clear()
        for scorer, entry in entries.items():
            self._set("psi", entry.psi, scorer)
            self._set("p_value", entry.p_value, scorer)
            self._set("window_scores", entry.m, scorer)
            self._set("entropy", entry.entropy, scorer)
            self._set("e_value", entry.e_value, scorer)
            self._set("severity", SEVERITIES.index(entry.severity), scorer)
            for name, shift in entry.images.items():
                self._set("image_psi", shift.psi, scorer, name)
                self._set("image_p_value", shift.p_value, scorer, name)

    def _set(self, name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            self._gauges[name].labels(*labels).set(value)
