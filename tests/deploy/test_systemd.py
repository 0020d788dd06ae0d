"""The systemd unit, without systemd running: its own checker reads it where it is installed."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_serve.cli.checks import MIN_DESCRIPTORS
from plumbline_serve.cli.main import USAGE
from plumbline_serve.cli.serve_command import STOP_TIMEOUT_S
from plumbline_serve.launch.supervisor import LEFTOVER_GRACE_S
from plumbline_serve.settings import load_settings
from tests.deploy.files import DEPLOY

UNIT = DEPLOY / "plumbline.service"
MAX_EXPOSURE = 40
"""Of 100, by `systemd-analyze security`; a unit without any of the settings that close things has 96."""
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return parser


def analyse(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    program = unit()["Service"]["ExecStart"].split()[0]
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text(encoding="utf-8").replace(program, sys.executable), encoding="utf-8")
    return path


@needs_systemd
def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    found = analyse("verify", "--man=no", installed)
    assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
def test_systemd_would_find_a_word_that_it_does_not_know(installed: Path) -> None:
    installed.write_text(installed.read_text(encoding="utf-8").replace("KillMode=mixed", "KillMode=gently"))
    assert "gently" in analyse("verify", "--man=no", installed).stderr


@needs_systemd
def test_little_of_the_machine_is_exposed(installed: Path) -> None:
    found = analyse("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", installed)
    assert found.returncode == 0, found.stdout


def test_it_is_told_to_stop_alone_and_has_the_time_that_it_takes() -> None:
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"
    drain_s = load_settings(DEPLOY / "plumbline.yaml").replicas.drain_timeout_s
    assert float(service["TimeoutStopSec"]) >= drain_s + STOP_TIMEOUT_S + 2 * LEFTOVER_GRACE_S


def test_it_has_what_the_service_looks_for_at_start() -> None:
    service = unit()["Service"]
    assert int(service["LimitNOFILE"]) > MIN_DESCRIPTORS
    assert int(service["RestartPreventExitStatus"]) == USAGE
    variables = dict(
        each.split("=", 1) for each in UNIT.read_text().split() if each.startswith(("HF_HOME", "PLUMBLINE_"))
    )
    cache = f"/var/cache/{service['CacheDirectory']}"
    assert all(folder.startswith(cache) for folder in variables.values())
    assert variables.keys() == {"HF_HOME", "PLUMBLINE_CACHE_DIR"}


def test_its_command_is_one_of_ours() -> None:
    words = unit()["Service"]["ExecStart"].split()
    assert Path(words[0]).name == "plumbline"
    assert words[1:3] == ["serve", "--config"]
