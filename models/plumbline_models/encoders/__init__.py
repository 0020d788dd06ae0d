"""What turns images, texts or pairs into rows: prepared without weights, encoded by compiled engines."""

from plumbline_models.encoders.shelf import Shelf

__all__ = ["Shelf"]
