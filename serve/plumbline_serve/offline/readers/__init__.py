"""Inputs as rows, always in the same order, so that a row's number names it from run to run."""

from plumbline_serve.offline.readers.inputs import open_input
from plumbline_serve.offline.readers.reading import Reader

__all__ = ["Reader", "open_input"]
