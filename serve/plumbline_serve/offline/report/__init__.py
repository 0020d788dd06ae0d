"""A page about the scores of an output: one HTML file, which needs nothing beside it."""

from plumbline_serve.offline.report.collect import collect
from plumbline_serve.offline.report.page import TAG_HEAD, page, tag_lines

__all__ = ["TAG_HEAD", "collect", "page", "tag_lines"]
