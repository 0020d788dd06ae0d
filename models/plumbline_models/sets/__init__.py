"""Scores over sets of encodings or labels: pure functions in float64, which know nothing of networks or of who asks."""
