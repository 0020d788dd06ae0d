"""Encodings that this process has computed or is computing, by content: equal inputs are encoded once."""

from plumbline_serve.encoding_cache.single_flight import Claim, EncodingCache, LookupObserver
from plumbline_serve.encoding_cache.store import EncodingKey, EncodingOrError, EncodingStore, encoding_key

__all__ = [
    "Claim",
    "EncodingCache",
    "EncodingKey",
    "EncodingOrError",
    "EncodingStore",
    "LookupObserver",
    "encoding_key",
]
