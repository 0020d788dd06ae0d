"""Keys are looked up as the file has them now."""

import logging
import threading
from pathlib import Path

import pytest

from plumbline_serve.edge.access.key_ring import KeyRing
from plumbline_serve.edge.access.keys_file import changing
from tests.keys import add_key

WAIT_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return add_key(tmp_path / "keys.yaml", "one")


def name_of(ring: KeyRing, key: str) -> str | None:
    entry = ring.find(key)
    return None if entry is None else entry.name


@pytest.mark.parametrize("key", ["", "on", "onee", "One", "schlüssel", "\x00" * 32, "one\n"], ids=repr)
def test_only_the_whole_key_is_found(path: Path, key: str) -> None:
    ring = KeyRing(path)
    assert name_of(ring, "one") == "one"
    assert ring.find(key) is None


def test_the_hash_is_no_key(path: Path) -> None:
    ring = KeyRing(path)
    entry = ring.find("one")
    assert entry is not None
    assert ring.find(entry.hash) is None
    assert ring.find(entry.digest.hex()) is None


def test_a_new_key_is_let_in_and_a_revoked_one_is_not(path: Path) -> None:
    ring = KeyRing(path)
    add_key(path, "two")
    ring.refresh()
    assert (name_of(ring, "one"), name_of(ring, "two")) == ("one", "two")
    with changing(path) as entries:
        del entries[0]
    ring.refresh()
    assert (name_of(ring, "one"), name_of(ring, "two")) == (None, "two")


def test_once_the_last_key_is_revoked_nobody_is_let_in(path: Path) -> None:
    ring = KeyRing(path)
    with changing(path) as entries:
        entries.clear()
    ring.refresh()
    assert ring.find("one") is None


@pytest.mark.parametrize("what", ["broken", "open to others", "gone"])
def test_a_file_that_cannot_be_used_is_said_once_and_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    ring = KeyRing(path)
    {
        "broken": lambda: path.write_bytes(b"keys: [canary"),
        "open to others": lambda: path.chmod(0o644),
        "gone": path.unlink,
    }[what]()
    with caplog.at_level(logging.WARNING):
        ring.refresh()
        ring.refresh()
    assert name_of(ring, "one") == "one"
    assert len(caplog.records) == 1
    assert "stay as they were" in caplog.text
    assert "canary" not in caplog.text


def test_the_file_is_looked_at_until_the_ring_is_closed(path: Path) -> None:
    ring = KeyRing(path)
    ring.watch(0.01)
    add_key(path, "two")
    for _ in range(int(WAIT_S / 0.01)):
        if name_of(ring, "two") is not None:
            break
        threading.Event().wait(0.01)
    assert name_of(ring, "two") == "two"
    ring.close()
