"""Decisions from scores: pure functions in float64, which know nothing of networks or of who asks."""
