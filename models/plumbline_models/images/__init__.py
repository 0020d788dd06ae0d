"""Bytes to pixels, pixels to what an encoder takes."""
