"""Certificates that cannot be used stop the start, with a sentence; nothing is served in the clear instead."""

from pathlib import Path

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.cli.serve_command import serve
from plumbline_serve.haproxy.tls import CertificateWatch, bind_words, check_certificates
from plumbline_serve.machine.ports import free_port
from plumbline_serve.settings import Settings, load_settings
from plumbline_serve.settings.access import TlsSettings
from plumbline_serve.settings.source import ConfigSource
from tests.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def own(authority: Authority) -> Pair:
    return authority.sign("service")


def test_certificates_that_fit_are_taken(own: Pair, authority: Authority, tmp_path: Path) -> None:
    check_certificates(TlsSettings())
    check_certificates(TlsSettings(cert=own.cert, key=own.key, client_ca=authority.file))
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(own.cert.read_bytes() + own.key.read_bytes())
    check_certificates(TlsSettings(cert=both))


def test_what_does_not_fit_is_refused(own: Pair, authority: Authority, tmp_path: Path) -> None:
    other = authority.sign("other")
    empty = tmp_path / "empty.pem"
    empty.touch(0o600)
    for tls, why in (
        (TlsSettings(cert=own.cert, key=other.key), "tls.cert and tls.key"),
        (TlsSettings(cert=empty, key=own.key), "tls.cert and tls.key"),
        (TlsSettings(cert=tmp_path / "none.pem", key=own.key), "No such file"),
        (TlsSettings(cert=own.cert, key=tmp_path / "none.key"), "No such file"),
        (TlsSettings(cert=own.cert, key=own.key, client_ca=empty), "tls.client_ca"),
    ):
        with pytest.raises(ConfigError, match=why):
            check_certificates(tls)


@pytest.mark.parametrize("mode", [0o644, 0o640], ids=oct)
def test_a_private_key_that_others_can_read_is_refused(own: Pair, mode: int) -> None:
    own.key.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        check_certificates(TlsSettings(cert=own.cert, key=own.key))


def test_haproxy_is_told_where_the_certificates_are_by_links(own: Pair, authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    assert bind_words(TlsSettings(), folder, "h2") == ""
    words = bind_words(TlsSettings(cert=own.cert, key=own.key, client_ca=authority.file), folder, "h2,http/1.1")
    assert words.split() == [
        "ssl", "crt", f"{folder}/tls/service.pem", "alpn", "h2,http/1.1", "ssl-min-ver", "TLSv1.2",
        "ca-file", f"{folder}/tls/clients.pem", "verify", "required",
    ]  # fmt: skip
    links = {path.name: path.resolve() for path in (folder / "tls").iterdir()}
    assert links == {"service.pem": own.cert, "service.pem.key": own.key, "clients.pem": authority.file}


def test_a_pair_of_which_one_file_is_new_is_not_handed_on(
    own: Pair, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = CertificateWatch(TlsSettings(cert=own.cert, key=own.key), tmp_path, tmp_path / "no-admin-socket")
    own.key.write_bytes(authority.sign("other").key.read_bytes())
    watch.refresh()
    assert "stay as they were" in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def test_relative_paths_start_at_the_configuration_s_folder(own: Pair, tmp_path: Path) -> None:
    (tmp_path / "plumbline.yaml").write_text("tls: {cert: service.pem, key: service.key}\n")
    assert load_settings(tmp_path / "plumbline.yaml").tls == TlsSettings(cert=own.cert, key=own.key)


@pytest.mark.parametrize(
    ("variable", "value"), [("RAY_SERVE_ENABLE_HA_PROXY", "0"), ("RAY_SERVE_HAPROXY_BINARY_PATH", "/usr/sbin/haproxy")]
)
def test_without_our_haproxy_there_is_no_service_rather_than_one_in_the_clear(
    own: Pair, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    settings = Settings(
        scorers={"clipscore": {}}, tls=TlsSettings(cert=own.cert, key=own.key), port=free_port(), grpc_port=free_port()
    )
    with pytest.raises(ConfigError, match="TLS needs the HAProxy"):
        serve(ConfigSource(None, dict(settings)))


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # inside Ray
def test_on_a_cluster_the_section_is_refused(own: Pair) -> None:
    from plumbline_serve.app import build  # noqa: PLC0415 - importing Ray warns

    with pytest.raises(ConfigError, match="in the clear"):
        build(Settings(tls=TlsSettings(cert=own.cert, key=own.key)))
