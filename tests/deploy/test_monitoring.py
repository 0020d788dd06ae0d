"""Alerts and the dashboard: their expressions are PromQL, over metrics and labels that the service has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import promql_parser
import pytest

from plumbline_models.core.errors import error_classes
from plumbline_serve.edge.grpc.status import grpc_code
from plumbline_serve.metrics import Instruments
from tests.deploy.files import DEPLOY, read

ALERTS = DEPLOY / "monitoring" / "alerts.yaml"
DASHBOARD = DEPLOY / "monitoring" / "plumbline.json"
PARTS = ("_sum", "_count", "_bucket")
OF_PROMETHEUS = {"up": {"job", "instance"}}
INTERVAL = "$__rate_interval"
"""Grafana's, by the width of the picture and the time between two scrapes."""


def rules() -> list[dict[str, Any]]:
    return [rule for group in read(ALERTS)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> Iterator[Any]:
    for rule in rules():
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in panels():
        for target in panel["targets"]:
            yield pytest.param(target["expr"].replace(INTERVAL, "1m"), id=f"{panel['title']} {target['refId']}")


def known() -> dict[str, set[str]]:
    """Labels of every series, by its name."""
    found = dict(OF_PROMETHEUS)
    instruments = Instruments()
    service: Any = SimpleNamespace(is_ready=True, num_active=0)
    instruments.serves(service)
    collected = ((each, metric) for each in instruments._registry._collector_to_names for metric in each.collect())
    for collector, metric in collected:
        name, kind = metric.name, metric.type
        labels = {*getattr(collector, "_labelnames", ())}.union(*(each.labels for each in metric.samples)) - {"le"}
        if kind == "histogram":
            found |= {f"{name}{part}": labels | ({"le"} if part == "_bucket" else set()) for part in PARTS}
        else:
            found[name + ("_total" if kind == "counter" else "")] = labels
    return found


def nodes(expression: str, *kinds: type) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), pre_visit=lambda node: _take(node, kinds, found))
    return found


def _take(node: Any, kinds: tuple[type, ...], found: list[Any]) -> None:
    if isinstance(node, kinds):
        found.append(node)


@pytest.mark.parametrize("expression", list(expressions()))
def test_an_expression_asks_for_series_and_labels_that_there_are(expression: str) -> None:
    series, labels = known(), set()
    for selector in nodes(expression, promql_parser.VectorSelector):
        assert selector.name in series, selector.name
        assert {matcher.name for matcher in selector.matchers.matchers} <= series[selector.name]
        labels |= series[selector.name]
    for sum_ in nodes(expression, promql_parser.AggregateExpr):
        assert set(sum_.modifier.labels if sum_.modifier else ()) <= labels, expression


def test_a_counter_is_never_read_without_its_rate() -> None:
    for each in expressions():
        (expression,) = each.values
        for counter in re.findall(r"plumbline_\w+_total", expression):
            assert re.search(rf"(rate|increase)\({counter}", expression), expression


def test_what_an_alert_or_a_legend_names_is_a_label_of_its_result() -> None:
    for rule in rules():
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert shown <= _labels_of(rule["expr"]), rule["alert"]
    for panel in panels():
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= _labels_of(target["expr"].replace(INTERVAL, "1m")), panel["title"]


def _labels_of(expression: str) -> set[str]:
    aggregates = nodes(expression, promql_parser.AggregateExpr)
    if aggregates:
        return set(aggregates[0].modifier.labels) if aggregates[0].modifier else set()
    return set().union(*(known()[each.name] for each in nodes(expression, promql_parser.VectorSelector)))


def test_reasons_that_are_alerted_on_are_codes() -> None:
    (reasons,) = re.findall(r'reason=~"([\w|]+)"', ALERTS.read_text(encoding="utf-8"))
    assert set(reasons.split("|")) <= {kind.code for kind in error_classes()}


def test_grpc_codes_that_are_alerted_on_are_codes_of_ours() -> None:
    (codes,) = re.findall(r'protocol="grpc", code=~"([\w|]+)"', ALERTS.read_text(encoding="utf-8"))
    failures = {grpc_code(kind("")).name for kind in error_classes() if kind.status >= 500}
    assert failures <= set(codes.split("|")) <= failures | {grpc.StatusCode.UNKNOWN.name}


def test_the_dashboard_has_a_panel_for_what_an_operator_asks_first() -> None:
    asked = {
        selector.name for each in expressions() for selector in nodes(each.values[0], promql_parser.VectorSelector)
    }
    of_us = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in asked}
    left_out = {"plumbline_build_info", "plumbline_items", "plumbline_combinations", "plumbline_encoder_comparisons"}
    left_out |= {"plumbline_drift_p_value", "plumbline_drift_window_scores", "plumbline_drift_entropy"}
    left_out |= {"plumbline_drift_e_value", "plumbline_drift_image_p_value"}
    known_names = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in known()}
    assert known_names - of_us == {f"{name}_total" if f"{name}_total" in known_names else name for name in left_out}


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not here")
def test_prometheus_finds_nothing_wrong(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose" / "prometheus.yaml", tmp_path)
    shutil.copy(ALERTS, tmp_path)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yaml")]
    found = subprocess.run(command, text=True, capture_output=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
