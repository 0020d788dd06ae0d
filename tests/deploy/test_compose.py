"""The compose file by the compose specification's schema, and by what it and its neighbours name."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumbline_serve.cli.serve_command import STOP_TIMEOUT_S
from plumbline_serve.launch.supervisor import LEFTOVER_GRACE_S
from plumbline_serve.settings import load_settings
from tests.deploy.files import DEPLOY, ROOT, read

FOLDER = DEPLOY / "compose"
FILE = FOLDER / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = read(FILE)["services"]
    return found


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


def test_it_is_what_the_specification_allows() -> None:
    found = check(FILE)
    assert found.returncode == 0, found.stdout


def test_a_word_that_is_not_of_the_specification_is_found(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        FILE.read_text(encoding="utf-8").replace("read_only: true\n", "readonly: true\n")
    )
    found = check(tmp_path / "compose.yaml")
    assert found.returncode == 1
    assert "readonly" in found.stdout


def test_every_file_that_is_mounted_is_there(services: dict[str, Any]) -> None:
    bound = [each for service in services.values() for each in service["volumes"] if isinstance(each, dict)]
    assert len(bound) >= 5
    for mount in bound:
        assert (FOLDER / mount["source"]).exists(), mount
        assert mount["read_only"], mount
    named = {
        each.split(":")[0] for service in services.values() for each in service["volumes"] if isinstance(each, str)
    }
    assert named == set(read(FILE)["volumes"])


def test_the_service_is_the_image_that_the_dockerfile_builds(services: dict[str, Any]) -> None:
    service = services["plumbline"]
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT
    assert service["build"]["target"] in stages
    assert f"VOLUME {service['volumes'][0].split(':')[1]}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_it_has_the_time_to_stop_that_its_settings_ask_for(services: dict[str, Any]) -> None:
    service = services["plumbline"]
    settings = service["volumes"][1]
    assert service["command"] == ["serve", "--config", settings["target"]]
    drain_s = load_settings(FOLDER / settings["source"]).replicas.drain_timeout_s
    assert float(service["stop_grace_period"].removesuffix("s")) >= drain_s + STOP_TIMEOUT_S + 2 * LEFTOVER_GRACE_S


def test_nothing_can_be_reached_from_other_machines(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_scrapes_the_service_and_grafana_asks_prometheus(services: dict[str, Any]) -> None:
    rest = load_settings(DEPLOY / "plumbline.yaml").port
    (job,) = read(FOLDER / "prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"plumbline:{rest}"]}]
    (source,) = read(FOLDER / "grafana" / "datasources" / "prometheus.yaml")["datasources"]
    name, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()  # type: ignore[union-attr]
    assert f"127.0.0.1:{port}:{port}" in services[name]["ports"]
