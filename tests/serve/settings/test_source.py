"""A configuration that is read anew while the service runs."""

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings.source import ConfigSource


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "plumbline.yaml"
    path.write_text("scorers: {clipscore: {}}", encoding="utf-8")
    return path


def test_what_changed_in_the_file_is_read_and_options_still_win(path):
    source = ConfigSource(path, {"port": 8100, "host": None})
    running = source.read()
    path.write_text("{scorers: {qualiclip: {}}, port: 8200}", encoding="utf-8")
    settings = source.read_anew(running)
    assert (settings.scorers, settings.port) == ({"qualiclip": {}}, 8100)


def test_what_is_the_same_is_equal(path):
    source = ConfigSource(path, {"port": 8100})
    running = source.read()
    assert source.read_anew(running) == running


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("port: 8200", "change of port takes a restart", id="a port"),
        pytest.param(
            "{limits: {max_items: 3}, tls: {cert: a.pem}}", "tls and limits takes a restart", id="HAProxy's rules"
        ),
        pytest.param("nonsense: 1", "nonsense", id="not valid"),
        pytest.param("{", "cannot be read", id="not YAML"),
    ],
)
def test_what_cannot_change_while_the_service_runs_is_refused(path, text, why):
    source = ConfigSource(path, {})
    running = source.read()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=why):
        source.read_anew(running)
