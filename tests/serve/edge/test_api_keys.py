from pathlib import Path

import pytest

from plumbline_models.core.errors import ConfigError, UnauthenticatedError
from plumbline_serve.edge.api_keys import ApiKeys


def write(folder: Path, content: bytes) -> Path:
    path = folder / "keys.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("sent", ["Bearer one", "bearer one", "BEARER   two ", "Bearer three"])
def test_a_listed_key_passes(tmp_path: Path, sent: str) -> None:
    keys = ApiKeys.read(write(tmp_path, b"# keys\none\r\n  two # rotated\n\nthree"))
    keys.check(sent)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "one",
        "Basic one",
        "Bearer on",
        "Bearer onee",
        "Bearer # keys",
        "Bearer schlüssel",
    ],
    ids=repr,
)
def test_anything_else_does_not(tmp_path: Path, sent: str | None) -> None:
    keys = ApiKeys.read(write(tmp_path, b"# keys\none\n"))
    with pytest.raises(UnauthenticatedError) as caught:
        keys.check(sent)
    assert "one" not in caught.value.detail.split()


def test_without_a_file_everyone_passes() -> None:
    ApiKeys.read(None).check(None)


@pytest.mark.parametrize(
    "content", [b"", b"# only a comment\n\n", b"two words\n", b"schl\xc3\xbcssel\n", b"\xff\xfe\n"], ids=repr
)
def test_a_file_without_usable_keys_stops_the_start(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError):
        ApiKeys.read(write(tmp_path, content))


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ApiKeys.read(tmp_path / "none.txt")
