"""Whether scores, and the images behind them, are still drawn as they were: counted as given, then compared."""

from plumbline_serve.drift.kept import KeptCounts
from plumbline_serve.drift.live import LiveWindows
from plumbline_serve.drift.monitor import DriftMonitor
from plumbline_serve.drift.references import Reference
from plumbline_serve.drift.windows import Counts, Slices, Window, counted_as, merged

__all__ = [
    "Counts",
    "DriftMonitor",
    "KeptCounts",
    "LiveWindows",
    "Reference",
    "Slices",
    "Window",
    "counted_as",
    "merged",
]
