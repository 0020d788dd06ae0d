"""A page about the scores of an output: one HTML file, which needs nothing beside it."""

from plumbline_serve.offline.report.collect import collect
from plumbline_serve.offline.report.page import page

__all__ = ["collect", "page"]
