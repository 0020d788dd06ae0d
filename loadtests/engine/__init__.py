"""Engines, decoders and towers by themselves."""
