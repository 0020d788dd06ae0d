"""`plumbline keys` makes, lists and revokes; the key itself is shown once."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plumbline_models.core.errors import ConfigError
from plumbline_serve.cli.main import cli
from plumbline_serve.edge.access.key_ring import KeyRing
from plumbline_serve.edge.access.keys_file import SCOPES, read_keys

runner = CliRunner()


def keys(*words: object) -> Result:
    return runner.invoke(cli, ["keys", *map(str, words)], env={"COLUMNS": "300"})


def test_a_new_key_is_printed_once_and_lets_its_caller_in(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    options = ("--scopes", "score, decide", "--weight", 2, "--rate", "100/minute", "--concurrency", 16, "--days", 30)
    made = keys("new", "--name", "pipeline", "--file", file, *options)
    assert (made.exit_code, made.stderr) == (0, "")
    key = made.stdout.strip()
    assert len(made.stdout.splitlines()) == 1
    entry = KeyRing(file).find(key)
    assert entry is not None
    assert (entry.name, entry.scopes, entry.weight) == ("pipeline", ("score", "decide"), 2.0)
    assert (entry.quota, entry.concurrency) == ((100, 60), 16)
    assert entry.expires is not None
    assert timedelta(days=29) < entry.expires - datetime.now(UTC) <= timedelta(days=30)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in file.read_text() + keys("list", "--file", file).stdout


def test_keys_are_listed_without_their_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    keys("new", "--name", "one", "--file", file)
    keys("new", "--name", "two", "--file", file, "--scopes", "admin", "--rate", "5/day", "--days", 1)
    shown = keys("list", "--file", file)
    assert shown.exit_code == 0
    for word in ("one", "two", "score", "admin", "5/day", "never", "any"):
        assert word in shown.stdout
    assert not any(entry.hash.partition(":")[2][:8] in shown.stdout for entry in read_keys(file))


def test_a_revoked_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    made = {name: keys("new", "--name", name, "--file", file).stdout.strip() for name in ("one", "two")}
    assert keys("revoke", "--name", "one", "--file", file).exit_code == 0
    ring = KeyRing(file)
    assert ring.find(made["one"]) is None
    assert ring.find(made["two"]) is not None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("new", "--name", "one"), "a key one already"),
        (("new", "--name", "No Name"), "--name is wrong"),
        (("new", "--name", "two", "--scopes", "all"), "--scopes is wrong"),
        (("new", "--name", "two", "--rate", "fast"), "--rate is wrong"),
        (("new", "--name", "two", "--concurrency", 0), "--concurrency is wrong"),
        (("new", "--name", "two", "--weight", 0), "--weight is wrong"),
        (("revoke", "--name", "two"), "no key two"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(tmp_path: Path, words: tuple[object, ...], why: str) -> None:
    file = tmp_path / "keys.yaml"
    keys("new", "--name", "one", "--file", file)
    before = file.read_bytes()
    refused = keys(*words, "--file", file)
    assert isinstance(refused.exception, ConfigError)
    assert why in refused.exception.detail
    assert refused.stdout == ""
    assert file.read_bytes() == before


def test_a_list_of_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused = keys("list", "--file", tmp_path / "none")
    assert isinstance(refused.exception, ConfigError)


def test_help_names_every_scope() -> None:
    shown = " ".join(keys("new", "--help").stdout.replace("│", " ").split())
    assert f"Comma-separated: {', '.join(SCOPES)}." in shown
