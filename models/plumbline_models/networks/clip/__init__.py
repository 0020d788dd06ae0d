"""CLIP: two towers, their checkpoints in every layout, and the byte-pair tokenizer."""
