"""Two outputs side by side: what changed for the same prompts and seeds, and whether it is more than chance."""

from plumbline_serve.offline.comparison.deltas import Comparison, ScorerDelta, TagDelta, compare
from plumbline_serve.offline.comparison.pairing import check_comparable, pair_up

__all__ = ["Comparison", "ScorerDelta", "TagDelta", "check_comparable", "compare", "pair_up"]
