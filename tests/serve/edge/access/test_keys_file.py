"""The file of API keys: what is refused, and what changing it leaves."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.edge.access.keys_file import KeyEntry, changing, digest_of, new_key, read_keys
from tests.keys import add_key

HASH = f"sha256:{'0' * 64}"


def write(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "keys.yaml"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    path = add_key(tmp_path / "a" / "keys.yaml", "one")
    add_key(path, "two", scopes=("decide", "admin"), weight=2.5, rate="100/minute", concurrency=3, expires=expires)
    one, two = read_keys(path)
    assert (one.name, one.scopes, one.weight, one.quota, one.concurrency, one.expires) == (
        "one", ("score",), 1.0, None, None, None,
    )  # fmt: skip
    assert (two.scopes, two.weight, two.quota, two.concurrency, two.expires) == (
        ("decide", "admin"), 2.5, (100, 60), 3, expires,
    )  # fmt: skip
    assert one.digest == digest_of("one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_has_256_random_bits_and_is_in_no_file(tmp_path: Path) -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert {len(key) for key in made} == {len("plumb_") + 43}  # 43 characters of 6 bits hold 256
    key = made.pop()
    add_key(tmp_path / "keys.yaml", key, name="someone")
    assert key not in (tmp_path / "keys.yaml").read_text()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666, 0o601], ids=oct)
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, b"keys: []\n", mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keys(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"canary-1\ncanary-2\n", id="plain keys, one per line"),
        pytest.param(b"canary: \xff\xfe\n", id="no UTF-8"),
        pytest.param(b"keys: [canary", id="no YAML"),
        pytest.param(b"keys: [canary]", id="a plain key in the list"),
        pytest.param(b"canary: 1\nkeys: []", id="an unknown field"),
        pytest.param(f"keys: [{{name: a, hash: '{HASH}', scopes: [score], canary: 1}}]".encode(), id="one of a key"),
        pytest.param(b"keys: [{name: a, hash: canary, scopes: [score]}]", id="a plain key in place of its hash"),
        pytest.param(f"keys: [{{name: a, hash: '{HASH}', scopes: [canary]}}]".encode(), id="an unknown scope"),
        pytest.param(f"keys: [{{name: a, hash: '{HASH}', scopes: []}}]".encode(), id="no scope"),
        pytest.param(f"keys: [{{name: a, hash: '{HASH}', scopes: [score], rate: canary}}]".encode(), id="no rate"),
        pytest.param(f"keys: [{{name: canary, hash: '{HASH}', scopes: [score]}}] # \x07".encode(), id="a control"),
        pytest.param(("keys:" + f"\n- {{name: a, hash: '{HASH}', scopes: [score]}}" * 2).encode(), id="twice"),
        pytest.param(b"[" * 5000, id="too deep"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_keys(write(tmp_path, content))
    error: BaseException | None = caught.value
    while error is not None:  # what a log would show of it
        assert "canary" not in f"{error!s}{error!r}{getattr(error, 'facts', '')}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_keys(tmp_path / "none.yaml")


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = add_key(tmp_path / "keys.yaml", "one")
    before = path.read_bytes()

    def fail() -> None:
        with changing(path) as entries:
            entries.clear()
            entries.pop()

    with pytest.raises(IndexError):
        fail()
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"keys.yaml", ".keys.yaml.lock"}


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_key(path, f"key-{number}"), range(24)))
    assert {entry.name for entry in read_keys(path)} == {f"key-{number}" for number in range(24)}


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    target = add_key(tmp_path / "data" / "keys.yaml", "one")
    link = tmp_path / "keys.yaml"
    link.symlink_to(target)
    add_key(link, "two")
    assert link.is_symlink()
    assert len(read_keys(target)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_keeps_its_owner_where_root_changes_it(tmp_path: Path) -> None:
    path = add_key(tmp_path / "keys.yaml", "one")
    os.chown(path, 12345, 23456)
    add_key(path, "two")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_an_entry_shows_no_hash() -> None:
    entry = KeyEntry(name="a", hash=HASH, scopes=("score",))
    assert HASH not in repr(entry)
