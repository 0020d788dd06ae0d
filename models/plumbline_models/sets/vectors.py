"""Sets of encodings as matrices: what may be in one, and what all scores over sets start from.

A set comes from a caller as well as from an encoder, so nothing is taken for granted: each vector is looked at, and
brought to unit length without overflow.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import InvalidFieldError

MAX_SET: Final = 4096
"""Encodings in one set."""
MAX_DIM: Final = 1536
"""Numbers per encoding: more than any CLIP has. The eigenvalues of a full set of such take seconds."""
ROWS_AT_A_TIME: Final = 256
"""Of a matrix of all pairs: 8 MiB of it are held at a time."""

Floats: TypeAlias = NDArray[np.floating[Any]]
"""float64, of any shape: numpy does not say which floats its linear algebra makes."""
Matrix: TypeAlias = Floats
"""`[N, D]`, one encoding per row."""
GivenVector: TypeAlias = Sequence[float] | str | bytes | Floats
"""An encoding as it comes: numbers, little-endian float32 or base64 of such, or what an encoder made."""
StillWanted: TypeAlias = Callable[[], None]
"""Called between the pieces of long work; raises where nobody waits for it any more."""


def always_wanted() -> None:
    """What to pass where the work is to be done whatever happens."""


def unit_rows(vectors: Sequence[GivenVector], pointer: str = "/embeddings") -> Matrix:
    """The set as a matrix whose rows have unit length.

    Args:
        vectors: 1 to `MAX_SET` of them, of one length.
        pointer: JSON pointer to them, for errors.

    Returns:
        `[N, D]` float64.

    Raises:
        InvalidFieldError: One is no vector of finite numbers, has no direction, or is longer than others.
    """
    if not 1 <= len(vectors) <= MAX_SET:
        raise _invalid(pointer, f"must hold 1 to {MAX_SET} encodings")
    rows = read_rows(vectors, pointer)
    dim = rows[0].size
    for index, row in enumerate(rows):
        if row.size != dim:
            raise _invalid(f"{pointer}/{index}", f"must have {dim} numbers, as the first encoding has")
    matrix = np.stack(rows).astype(np.float64)
    largest = np.max(np.abs(matrix), axis=1, keepdims=True)
    for index in np.flatnonzero(~np.isfinite(largest[:, 0]) | (largest[:, 0] == 0))[:1]:
        fault = "must not be zero" if largest[index, 0] == 0 else "must have finite numbers"
        raise _invalid(f"{pointer}/{index}", fault)
    matrix /= largest  # so that neither the largest nor the smallest doubles leave their range when squared
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def read_rows(vectors: Sequence[GivenVector], pointer: str = "/embeddings") -> list[Floats]:
    """Each vector as an array, of the type that it came in: float32 where that is what it is, else float64.

    Args:
        vectors: As they come.
        pointer: JSON pointer to them, for errors.

    Raises:
        InvalidFieldError: One is no vector of numbers.
    """
    return [_numbers(vector, f"{pointer}/{index}") for index, vector in enumerate(vectors)]


def _numbers(vector: GivenVector, pointer: str) -> Floats:
    if isinstance(vector, str | bytes):
        row = _from_bytes(vector if isinstance(vector, bytes) else _from_base64(vector, pointer), pointer)
    elif isinstance(vector, np.ndarray):
        row = np.ravel(vector)
    else:
        row = np.ravel(np.asarray(vector, np.float64))
    if not 1 <= row.size <= MAX_DIM:
        raise _invalid(pointer, f"must have 1 to {MAX_DIM} numbers")
    return row


def _from_base64(text: str, pointer: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(pointer, "must be numbers, or base64 of little-endian float32") from error


def _from_bytes(content: bytes, pointer: str) -> Floats:
    if len(content) % 4:
        raise _invalid(pointer, "must be whole float32 numbers, 4 bytes each")
    return np.frombuffer(content, "<f4")


def _invalid(pointer: str, detail: str) -> InvalidFieldError:
    return InvalidFieldError(f"{pointer} {detail}.", errors=[{"pointer": pointer, "detail": detail}])
