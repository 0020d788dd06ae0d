"""Which file is this: sha256 of checkpoints, each hashed once a process."""

import hashlib
from functools import lru_cache
from pathlib import Path

from plumbline_models.core.errors import CheckpointNotFoundError, ChecksumError
from plumbline_models.weights.weight_files import files_of, is_index

SHORT = 8
"""Hex digits that tell checkpoints apart in keys."""


def sha256_of(file: Path) -> str:
    """Hex sha256 of a file, or over those of the shards that an index lists.

    Files are hashed again only when their size or time of change differ.

    Raises:
        CheckpointNotFoundError: There is no such file, or it cannot be read.
        CheckpointError: It is an index that cannot be read.
    """
    if is_index(file):
        return hashlib.sha256(repr([_hash_now(shard) for shard in files_of(file)]).encode()).hexdigest()
    return _hash_now(file)


def _hash_now(file: Path) -> str:
    try:
        stat = file.stat()
        return _hash(file, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise CheckpointNotFoundError(f"There is no readable checkpoint {file.name}.", path=str(file)) from error


def verify(file: Path, sha256: str) -> None:
    """Check that a file is the one that the configuration means.

    Args:
        file: The weights, or an index of their shards.
        sha256: Hex, as configured.

    Raises:
        ChecksumError: It is another.
    """
    found = sha256_of(file)
    if found != sha256.lower():
        raise ChecksumError(
            f"The checkpoint {file.name} has sha256 {found[:SHORT]}…, not {sha256[:SHORT].lower()}… as configured.",
            path=str(file),
            found=found,
            expected=sha256,
        )


@lru_cache(maxsize=64)
def _hash(file: Path, mtime_ns: int, size_bytes: int) -> str:
    del mtime_ns, size_bytes  # parts of the cache's key only
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
