"""A real Prometheus scrapes a real service by the configuration that we ship, and draws what the dashboard asks for."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from plumbline_client import Client, Item
from plumbline_serve.machine.ports import free_port
from tests.web.conftest import Served, program
from tests.web.generated import run

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "monitoring" / "alerts.yaml"
DASHBOARD = json.loads((DEPLOY / "monitoring" / "plumbline.json").read_text(encoding="utf-8"))
INTERVAL, SCRAPE = "$__rate_interval", "1s"
WAIT_S = 120
QUIET = {
    "Requests refused per second", "Drift of scores, by severity", "Stability index of scores and images",
    "Deadlines that passed per second, by stage", "Items without any score, per second",
    "Share of images that guards suspect",
}  # fmt: skip
"""Panels that are empty where nothing is refused or late, all items are scored, and no reference or guard is kept."""


@pytest.fixture(scope="module")
def configuration(service: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours, with the address of the service, and scrapes that a test does not wait for."""
    program("prometheus", "prometheus")
    shipped = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
    shipped["global"] = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE}
    shipped["rule_files"] = [str(ALERTS)]
    [job] = shipped["scrape_configs"]
    job["scrape_timeout"] = SCRAPE
    job["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
    path = tmp_path_factory.mktemp("prometheus") / "prometheus.yaml"
    path.write_text(yaml.safe_dump(shipped), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def query(configuration: Path, service: Served, gallery: Path) -> Iterator[Any]:
    """Asks Prometheus, once it has seen the service scoring."""
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        "prometheus",
        "--config.file",
        configuration,
        "--storage.tsdb.path",
        configuration.parent / "data",
    ]
    with subprocess.Popen(
        [*command, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL, cwd=configuration.parent
    ) as process:

        def ask(expression: str) -> list[dict[str, Any]]:
            answer = httpx.get(f"http://{address}/api/v1/query", params={"query": expression}, timeout=30)
            reply = answer.raise_for_status().json()
            assert reply["status"] == "success", (expression, reply)
            found: list[dict[str, Any]] = reply["data"]["result"]
            return found

        try:
            with Client(service.url, timeout_ms=120_000) as client:
                await_true(lambda: scored(client, gallery) and bool(ask("rate(plumbline_requests_total[10s]) > 0")))
            yield ask
        finally:
            process.terminate()


def scored(client: Client, gallery: Path) -> bool:
    client.score([Item(gallery / "red_circle.png", f"a red circle {time.monotonic()}")])
    return True


def await_true(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            if is_so():
                return
        except httpx.HTTPError:  # it does not listen yet, or is not ready
            pass
        threading.Event().wait(0.2)
    pytest.fail("Prometheus has not seen the service")


def test_promtool_finds_nothing_wrong(configuration: Path) -> None:
    promtool = program("promtool", "prometheus")
    assert "SUCCESS" in run(promtool, "check", "config", configuration, folder=configuration.parent)


def test_it_says_how_the_service_is(query: Any) -> None:
    values = {name: float(query(name)[0]["value"][1]) for name in ("up", "plumbline_ready", "plumbline_build_info")}
    assert values == {"up": 1, "plumbline_ready": 1, "plumbline_build_info": 1}
    [memory] = query("plumbline_process_memory_bytes")
    assert memory["metric"]["process"] == "gateway"
    assert float(memory["value"][1]) > 50 * 2**20
    assert float(query("plumbline_process_cpu_seconds_total")[0]["value"][1]) > 0
    assert float(query("plumbline_requests_in_flight")[0]["value"][1]) >= 0


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_each_panel_of_the_dashboard_has_something_to_draw(query: Any, panel: dict[str, Any]) -> None:
    found = [query(target["expr"].replace(INTERVAL, "10s")) for target in panel["targets"]]
    assert panel["title"] in QUIET or any(found)


def test_no_alert_fires_for_a_service_that_works(query: Any, service: Served) -> None:
    with Client(service.url) as client:
        referred = {
            each.scorer for each in client.references()
        }  # other tests gave references, which scores do drift from
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            fired = [each for each in query(rule["expr"]) if each["metric"].get("scorer") not in referred]
            assert fired == [], rule["alert"]
