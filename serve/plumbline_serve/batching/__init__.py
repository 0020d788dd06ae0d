"""Batches across requests: bounded lanes, deadlines, one encoding or error per input; no Ray in here."""

from plumbline_serve.batching.batcher import Batcher, BatchLimits, EncodedBatch
from plumbline_serve.batching.compute import Compute, LocalCompute
from plumbline_serve.batching.observer import BatchObserver

__all__ = ["BatchLimits", "BatchObserver", "Batcher", "Compute", "EncodedBatch", "LocalCompute"]
