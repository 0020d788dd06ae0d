"""Texts to tokens, tokens to words of the caller's text."""
