"""Torch modules to ONNX, and what precision is done to them on the way."""
