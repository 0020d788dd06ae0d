"""What is known of drift, as gauges of the whole application: said once, by whoever is asked."""

from collections.abc import Mapping
from typing import Final

from plumbline_models.decisions.drift import SEVERITIES
from plumbline_serve.drift_messages import DriftEntry
from plumbline_serve.metrics.merge import Families, Family, Labels, Snapshot

_DOCUMENTATION: Final[Mapping[str, str]] = {
    "plumbline_drift_psi": "Population stability index of scores beside their reference.",
    "plumbline_drift_p_value": "How often scores of one law are as far apart.",
    "plumbline_drift_window_scores": "Scores in the window.",
    "plumbline_drift_entropy": "Mean entropy of scores that are probabilities, in bits.",
    "plumbline_drift_e_value": "A bet against no drift.",
    "plumbline_drift_severity": "0 none, 1 low, 2 medium, 3 high, 4 critical.",
    "plumbline_drift_image_psi": "The index of a statistic of the images.",
    "plumbline_drift_image_p_value": "The p-value of a statistic of the images.",
}


def drift_snapshot(entries: Mapping[str, DriftEntry]) -> Snapshot:
    """The gauges, to be merged with what processes count.

    Args:
        entries: By scorer.
    """
    families: Families = {name: Family("gauge", text) for name, text in _DOCUMENTATION.items()}

    def say(name: str, value: float | None, *labels: tuple[str, str]) -> None:
        if value is not None:
            key: Labels = tuple(sorted(labels))
            families[name].samples[name, key] = value

    for scorer, entry in entries.items():
        label = ("scorer", scorer)
        say("plumbline_drift_psi", entry.psi, label)
        say("plumbline_drift_p_value", entry.p_value, label)
        say("plumbline_drift_window_scores", entry.m, label)
        say("plumbline_drift_entropy", entry.entropy, label)
        say("plumbline_drift_e_value", entry.e_value, label)
        say("plumbline_drift_severity", SEVERITIES.index(entry.severity), label)
        for name, shift in entry.images.items():
            say("plumbline_drift_image_psi", shift.psi, label, ("statistic", name))
            say("plumbline_drift_image_p_value", shift.p_value, label, ("statistic", name))
    return Snapshot("drift", 0, {name: family for name, family in families.items() if family.samples})
