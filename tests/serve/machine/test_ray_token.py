"""What Ray's own ports ask for: a token of the service's own, which its user alone can read."""

import os
import stat
from pathlib import Path

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.ray_token import MODE, TOKEN, TOKEN_PATH, check_own_start, check_token, own_token


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_each_service_has_a_token_that_its_user_alone_can_read(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    tokens = set()
    for folder in folders:
        folder.mkdir()
        variables = own_token(folder)
        assert set(variables) == {MODE, TOKEN_PATH}
        assert variables[MODE] == "token"
        path = Path(variables[TOKEN_PATH])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        tokens.add(path.read_text())
    assert len(tokens) == 2
    assert {len(token) for token in tokens} == {64}  # 256 bits


def test_the_caller_s_own_token_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "0" * 64)
    assert own_token(tmp_path) == {MODE: "token"}
    assert list(tmp_path.iterdir()) == []


def test_where_ray_asks_for_none_the_start_is_refused() -> None:
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE=token"):
        check_token(os.environ, is_asked_for=False)


@pytest.mark.parametrize("place", ["the caller's", "Ray's own"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602], ids=oct)
def test_a_token_that_others_can_use_is_refused(tmp_path: Path, place: str, mode: int) -> None:
    path = tmp_path / (".ray/auth_token" if place == "Ray's own" else "token")
    path.parent.mkdir(exist_ok=True)
    path.write_text("0" * 64)
    path.chmod(mode)
    environment = {TOKEN_PATH: str(path)} if place == "the caller's" else {}
    with pytest.raises(ConfigError, match="chmod 600"):
        check_token(environment, is_asked_for=True)
    path.chmod(0o600)
    check_token(environment, is_asked_for=True)


def test_a_token_in_a_variable_needs_no_file() -> None:
    check_token({TOKEN: "0" * 64}, is_asked_for=True)


def test_the_command_refuses_what_the_caller_has_set_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE=token"):
        check_own_start({MODE: "disabled"}, is_required=True)
    (tmp_path / "token").touch(0o644)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        check_own_start({TOKEN_PATH: str(tmp_path / "token")}, is_required=True)
    check_own_start({MODE: "disabled"}, is_required=False)
    check_own_start({}, is_required=True)
