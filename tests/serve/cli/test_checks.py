"""What stops the service is found before anything is started, in `serve` and in `doctor` alike."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from plumbline_serve.cli.checks import MIN_DESCRIPTORS, Finding, look
from plumbline_serve.machine.ports import free_port
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import AuthSettings, TlsSettings
from plumbline_serve.settings.urls import UrlSettings


def settings_of(cache_dir: Path) -> Settings:
    return Settings(host="127.0.0.1", port=free_port(), grpc_port=free_port(), cache_dir=cache_dir)


def advice_of(what: str, settings: Settings) -> str | None:
    """What to do about it; None where it is fine."""
    (finding,) = (each for each in look(settings) if each.what == what)
    return None if finding.is_fine else f"{finding.found} {finding.advice}"


def plumbline(command: str, *arguments: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "plumbline_serve.cli", command, *arguments]
    if limit is not None:
        words = ["prlimit", f"--nofile={limit}:{limit}", *words]
    environment = os.environ | {"COLUMNS": "300", "PLUMBLINE_BACKEND": "fake"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_this_machine_is_fine(tmp_path: Path) -> None:
    broken = [finding for finding in look(settings_of(tmp_path)) if finding.is_needed and not finding.is_fine]
    assert not broken


def test_serve_and_doctor_name_every_fault_at_once(tmp_path: Path) -> None:
    port = str(free_port())
    file = tmp_path / "plumbline.yaml"
    file.write_text(f"auth: {{keys_file: nowhere}}\nport: {port}\ngrpc_port: {port}\n", encoding="utf-8")
    for command in ("serve", "doctor"):
        done = plumbline(command, "--config", str(file), limit=1024)
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode in {1, 2}, said
        for fault in ("cannot share port", "API keys", f"needs {MIN_DESCRIPTORS:,}"):
            assert fault in said, command


def test_a_low_soft_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    code = (
        "import resource; from plumbline_serve.cli.checks import raise_descriptor_limit; "
        "raise_descriptor_limit(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    command = ["prlimit", f"--nofile=256:{hard}", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    soft, still = map(int, done.stdout.split())
    assert soft >= min(hard, MIN_DESCRIPTORS)
    assert still == hard


def test_an_engine_cache_that_is_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    assert "File exists" in (advice_of("engine cache", settings_of(tmp_path / "cache")) or "")


def test_a_home_that_is_not_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    assert "cannot be written" in (advice_of("home folder", settings_of(tmp_path)) or "")


@pytest.mark.parametrize(("mode", "is_fine"), [(0o600, True), (0o644, False), (0o640, False)])
def test_a_token_of_the_caller_s_that_others_can_read_is_found(
    mode: int, is_fine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.touch()
    token.chmod(mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert (advice_of("Ray's token", settings_of(tmp_path)) is None) is is_fine


def test_a_redis_that_does_not_answer_is_said_and_stops_nothing(tmp_path: Path) -> None:
    url = SecretStr(f"redis://:canary@127.0.0.1:{free_port()}/0")
    settings = settings_of(tmp_path).model_copy(update={"auth": AuthSettings(limits_url=url)})
    (finding,) = (each for each in look(settings) if each.what == "shared limits")
    assert (finding.is_fine, finding.is_needed) == (False, False)
    assert "canary" not in repr(finding)


def test_an_address_that_is_none_of_a_redis_stops_the_start(tmp_path: Path) -> None:
    auth = AuthSettings(limits_url=SecretStr("redis://:canary@host:port/x"))
    (finding,) = (
        each for each in look(settings_of(tmp_path).model_copy(update={"auth": auth})) if each.what == "shared limits"
    )
    assert (finding.is_fine, finding.is_needed) == (False, True)
    assert "canary" not in repr(finding)


def store_finding(tmp_path: Path, store: str) -> Finding:
    settings = settings_of(tmp_path).model_copy(update={"store": SecretStr(store)})
    (finding,) = (each for each in look(settings) if each.what == "store")
    assert not finding.is_needed
    return finding


def test_a_store_that_could_be_made_is_fine_and_not_made(tmp_path: Path) -> None:
    finding = store_finding(tmp_path, f"sqlite:///{tmp_path}/new/store.db")
    assert (finding.is_fine, finding.found) == (True, f"{tmp_path}/new/store.db, made with the first decision")
    assert not (tmp_path / "new").exists()
    (tmp_path / "store.db").touch()
    assert store_finding(tmp_path, f"sqlite:///{tmp_path}/store.db").found == f"{tmp_path}/store.db"


@pytest.mark.parametrize("store", ["sqlite:///{folder}/file/store.db", "postgresql://a:canary@127.0.0.1:1/x"])
def test_a_store_that_cannot_keep_anything_is_said_and_stops_nothing(tmp_path: Path, store: str) -> None:
    (tmp_path / "file").touch()
    finding = store_finding(tmp_path, store.format(folder=tmp_path))
    assert not finding.is_fine
    assert "canary" not in repr(finding)


def test_certificates_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    settings = settings_of(tmp_path).model_copy(update={"tls": TlsSettings(cert=tmp_path / "none.pem")})
    assert "No such file" in (advice_of("TLS", settings) or "")


def test_authorities_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    urls = UrlSettings(enabled=True, allow_hosts=("a.example",))
    assert advice_of("images by URL", settings_of(tmp_path).model_copy(update={"urls": urls})) is None
    urls = urls.model_copy(update={"ca_file": tmp_path / "none.pem"})
    found = advice_of("images by URL", settings_of(tmp_path).model_copy(update={"urls": urls}))
    assert "The file of authorities" in (found or "")
