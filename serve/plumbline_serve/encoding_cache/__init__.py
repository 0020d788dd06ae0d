"""Rows that this process has made or is making, by content: equal inputs are encoded once, whoever sends them."""

from plumbline_serve.encoding_cache.in_flight import Joined, Make
from plumbline_serve.encoding_cache.keys import EncodingKey, EncodingOrError, encoding_key
from plumbline_serve.encoding_cache.single_flight import EncodingCache, LookupObserver
from plumbline_serve.encoding_cache.store import EncodingStore

__all__ = [
    "EncodingCache",
    "EncodingKey",
    "EncodingOrError",
    "EncodingStore",
    "Joined",
    "LookupObserver",
    "Make",
    "encoding_key",
]
