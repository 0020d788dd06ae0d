"""`plumbline doctor` finds what would stop `plumbline serve`, which says the same before anything is started."""

from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.cli.doctor import BROKEN, OK, examine
from plumbline_serve.cli.serve_command import serve
from plumbline_serve.machine.ports import free_port
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import AuthSettings
from plumbline_serve.settings.source import ConfigSource
from tests.keys import add_key


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that the table's cells stay on one line


def settings_of(tmp_path: Path, **changes: Any) -> Settings:
    ports: dict[str, Any] = {"port": free_port(), "grpc_port": free_port(), "host": "127.0.0.1"}
    return Settings(scorers={"clipscore": {}}, cache_dir=tmp_path, **{**ports, **changes})


def test_a_sound_configuration_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = add_key(tmp_path / "keys", "a-key")
    assert examine(settings_of(tmp_path, auth=AuthSettings(keys_file=keys))) == OK
    assert "API keys" in capsys.readouterr().out


@pytest.mark.parametrize(("host", "is_said"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)])
def test_a_service_that_is_open_to_its_network_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, *, is_said: bool
) -> None:
    assert examine(settings_of(tmp_path, host=host)) == OK
    assert ("everybody who can reach" in " ".join(capsys.readouterr().out.split())) is is_said


def test_a_missing_file_of_keys_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(tmp_path, auth=AuthSettings(keys_file=tmp_path / "nowhere"))
    assert examine(settings) == BROKEN
    assert "cannot be read" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="API keys"):
        serve(ConfigSource(None, dict(settings)))


def test_one_port_for_both_protocols_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    settings = settings_of(tmp_path, port=port, grpc_port=port)
    assert examine(settings) == BROKEN
    assert "a port each" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="cannot share"):
        serve(ConfigSource(None, dict(settings)))


def test_a_file_of_keys_that_others_can_read_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = add_key(tmp_path / "keys", "a-key")
    keys.chmod(0o640)
    settings = settings_of(tmp_path, auth=AuthSettings(keys_file=keys))
    assert examine(settings) == BROKEN
    assert "chmod 600" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="mode 0640"):
        serve(ConfigSource(None, dict(settings)))
