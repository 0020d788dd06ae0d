"""The tiny models behind the golden numbers of `tests/golden/preference`, rebuilt from their seeds."""
