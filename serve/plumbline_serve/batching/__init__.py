"""Batches across requests: fair shares, deadlines, one encoding or error per input; no Ray in here."""

from plumbline_serve.batching.backlog import Backlog, size_class
from plumbline_serve.batching.batcher import Batcher, BatchLimits
from plumbline_serve.batching.compute import Compute, GroupState, LocalCompute
from plumbline_serve.batching.load import EncoderLoad, Forecast, check_wait, comes_late, late, overloaded
from plumbline_serve.batching.margin import Margin
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.batching.runner import EncodedBatch

__all__ = [
    "Backlog",
    "BatchLimits",
    "BatchObserver",
    "Batcher",
    "Compute",
    "EncodedBatch",
    "EncoderLoad",
    "Forecast",
    "GroupState",
    "LocalCompute",
    "Margin",
    "check_wait",
    "comes_late",
    "late",
    "overloaded",
    "size_class",
]
