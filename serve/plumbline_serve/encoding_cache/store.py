"""Encodings of past requests, the least recently used making room; each kind within bytes of its own."""

import hashlib
import pickle  # nosec B403  # it never leaves this process
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeAlias

from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Encoder, EncoderKind, Encoding

EncodingOrError: TypeAlias = Encoding | PlumblineError
ENTRY_BYTES = 640
"""What a stored encoding takes beside its content: the key, its digest, the entry, and the places in the LRU order."""


class EncodingKey(NamedTuple):
    """What one encoder's encoding of one input is known by.

    The encoder's key tells architecture, weights and what goes before them; precision, backend and the way that files
    become pixels are the same for the whole process. So equal keys mean equal encodings, here and nowhere else: bit for
    bit where they are alone, else but for what a batch changes.
    """

    kind: EncoderKind
    encoder: str
    digest: bytes
    """SHA-256 of the input: callers choose what they send, so nothing that they could make collide will do."""
    is_alone: bool = False
    """Whether it was encoded in no batch with others, whose number and lengths show in its last bits."""


def encoding_key(encoder: Encoder, *parts: bytes, is_alone: bool = False) -> EncodingKey:
    """The key of an input that consists of parts; parts that differ in their borders are different inputs.

    Args:
        encoder: Whose encoding it is.
        *parts: All that the encoding depends on.
        is_alone: Whether it is encoded in no batch with others.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return EncodingKey(encoder.kind, encoder.key, digest.digest(), is_alone)


def alone(key: EncodingKey) -> EncodingKey:
    """The key of the same input, encoded alone."""
    return EncodingKey(key.kind, key.encoder, key.digest, is_alone=True)


@dataclass(frozen=True, slots=True)
class StoredEncoding:
    """An encoding in memory of its own: encodings are often views of a whole batch, which they would keep alive."""

    pickled: bytes
    buffers: tuple[bytes, ...]
    """The contents of its arrays, which the encodings made of it borrow and cannot write to."""

    @classmethod
    def of(cls, encoding: Encoding) -> Self:
        """Copy an encoding."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(encoding, protocol=5, buffer_callback=buffers.append)
        return cls(pickled, tuple(buffer.raw().tobytes() for buffer in buffers))

    def load(self) -> Encoding:
        """The encoding, its arrays read-only."""
        return pickle.loads(self.pickled, buffers=self.buffers)  # noqa: S301 - pickled by this process, never left it  # nosec B301

    @property
    def num_bytes(self) -> int:
        """All that it takes, its entry in the store included."""
        return ENTRY_BYTES + len(self.pickled) + sum(len(buffer) for buffer in self.buffers)


class EncodingStore:
    """Keeps encodings by key; for one thread.

    Args:
        max_bytes: Of all encodings of a kind; a kind that is missing or has 0 is not kept.
    """

    def __init__(self, max_bytes: Mapping[EncoderKind, int]) -> None:
        self._stored: dict[EncoderKind, ByteBoundedCache[EncodingKey, StoredEncoding]] = {
            kind: ByteBoundedCache(size, lambda each: each.num_bytes) for kind, size in max_bytes.items() if size
        }

    def num_bytes(self, kind: EncoderKind) -> int:
        """What the encodings of a kind take."""
        cache = self._stored.get(kind)
        return 0 if cache is None else cache.num_bytes

    def __contains__(self, key: EncodingKey) -> bool:
        cache = self._stored.get(key.kind)
        return cache is not None and key in cache

    def get(self, key: EncodingKey) -> Encoding | None:
        """The encoding, if it is stored."""
        cache = self._stored.get(key.kind)
        stored = None if cache is None else cache.get(key)
        return None if stored is None else stored.load()

    def put(self, key: EncodingKey, encoding: Encoding) -> None:
        """Store an encoding, unless it alone is larger than what its kind may take.

        Args:
            key: What `get` finds it by.
            encoding: It is copied.
        """
        cache = self._stored.get(key.kind)
        if cache is not None:
            cache.put(key, StoredEncoding.of(encoding))
