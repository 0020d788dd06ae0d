"""Prometheus metrics: the instruments of one process, and the exposition of all of them together."""

from plumbline_serve.metrics.instruments import Instruments
from plumbline_serve.metrics.merge import LastSnapshots, Snapshot, exposition

__all__ = ["Instruments", "LastSnapshots", "Snapshot", "exposition"]
