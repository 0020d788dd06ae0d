"""Rows that this process has made or is making, by content: equal inputs are encoded once, whoever sends them."""

from plumbline_serve.rows.flights import Joined, Make
from plumbline_serve.rows.row_names import RowName, RowOrError, name_row
from plumbline_serve.rows.row_store import RowStore
from plumbline_serve.rows.shared_rows import LookupObserver, SharedRows

__all__ = ["Joined", "LookupObserver", "Make", "RowName", "RowOrError", "RowStore", "SharedRows", "name_row"]
