import hashlib
import os
from pathlib import Path

import pytest

from plumbline_models.core.errors import CheckpointNotFoundError, ChecksumError
from plumbline_models.weights.digest import sha256_of, verify


def test_a_file_is_hashed_as_sha256sum_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"plumb" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"plumb" * 100_000).hexdigest()


def test_a_rewritten_file_of_the_same_size_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    before = sha256_of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert sha256_of(file) != before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"no readable checkpoint weights\.bin"):
        sha256_of(tmp_path / "weights.bin")


def test_the_right_digest_passes_and_another_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    verify(tmp_path / "a", hashlib.sha256(b"one").hexdigest().upper())
    with pytest.raises(ChecksumError, match=r"a has sha256 7692c3ad…, not ffffffff… as configured"):
        verify(tmp_path / "a", "f" * 64)
