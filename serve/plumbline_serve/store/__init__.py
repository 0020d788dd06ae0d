"""What must outlive a process: named artefacts, each bound to what it was made with, in SQLite or PostgreSQL."""

from plumbline_serve.store.artefacts import COMBINATION, WEIGHTS, Artefact, Binding, Kind
from plumbline_serve.store.drift_records import Bet, CountRow
from plumbline_serve.store.store import Store

__all__ = ["COMBINATION", "WEIGHTS", "Artefact", "Bet", "Binding", "CountRow", "Kind", "Store"]
