"""What a row is known by."""

import hashlib
from typing import NamedTuple, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Encoder, EncoderKind, Encoding

EncodingOrError: TypeAlias = Encoding | PlumblineError


class EncodingKey(NamedTuple):
    """One encoder's row of one input.

    The encoder's key tells architecture, weights and what goes before them; precision, backend and the way that files
    become pixels are the same for the whole process. So equal names mean equal rows, here and nowhere else.
    """

    kind: EncoderKind
    encoder: str
    digest: bytes
    """SHA-256 of the input: callers choose what they send, so nothing that they could make collide will do."""


def encoding_key(encoder: Encoder, *parts: bytes) -> EncodingKey:
    """Name the row of an input that consists of parts; parts that differ in their borders are different inputs."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return EncodingKey(encoder.kind, encoder.key, digest.digest())
