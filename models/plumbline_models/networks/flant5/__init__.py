"""CLIP-FlanT5: an image tower in front of an encoder-decoder."""
