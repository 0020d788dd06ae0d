"""The papers' tables: the same images and labels, scored here, by the papers' own arithmetic."""

from plumbline_serve.offline.evaluation.measured import Evaluated, evaluate
from plumbline_serve.offline.evaluation.suites import SUITES, suite_of

__all__ = ["SUITES", "Evaluated", "evaluate", "suite_of"]
