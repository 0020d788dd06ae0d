"""Batches across requests: bounded lanes, deadlines, one result or error an input; no Ray in here."""

from plumbline_serve.batching.batcher import Batcher, BatchLimits
from plumbline_serve.batching.local import LocalCompute
from plumbline_serve.batching.observer import BatchObserver

__all__ = ["BatchLimits", "BatchObserver", "Batcher", "LocalCompute"]
