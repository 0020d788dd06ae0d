"""Decisions of a split service that keeps them in PostgreSQL: wires decide alike, and scores outlive the server."""

import base64
import csv
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from plumbline_client import Client, Combination, GrpcClient, Item, Term, Threshold
from plumbline_serve.cli.main import cli
from plumbline_serve.store.store import LOOK_AGAIN_S
from tests.postgres_server import PASSWORD, PostgresServer, running_postgres
from tests.services import RunningService, encoded, picture, start_service

pytestmark = pytest.mark.ray
WAIT_S = 60.0
CONFIG = """
scorers: {{clipscore: {{}}, qualiclip: {{}}}}
replicas: {{layout: split, num_gateways: 2, num_encoders: 1}}
store: {store}
"""
TEXT = "a red circle"
REWARD = {"reward": Combination("sum", [Term("clipscore", 2.0), Term("qualiclip", 0.5)])}
LABELLED, FRESH = range(40), range(100, 124)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def service(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_cache: str
) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("decisions")
    running = start_service(folder, CONFIG.format(store=postgres.new_database()), PLUMBLINE_CACHE_DIR=engine_cache)
    yield running
    assert running.terminate() == 0
    assert PASSWORD not in running.log.read_text(encoding="utf-8")


def items(seeds: range) -> list[Item]:
    return [Item(encoded(picture(seed), "PNG"), TEXT) for seed in seeds]


def values(client: Client | GrpcClient, seeds: range) -> list[float]:
    """Of the combination."""
    reply = client.score(items(seeds), combine=REWARD, deterministic=True)
    return [each.value("reward") for each in reply.results]


def document(seeds: range, *policy: dict[str, Any]) -> dict[str, Any]:
    sent = [
        {"image": {"b64": base64.b64encode(encoded(picture(seed), "PNG")).decode()}, "text": TEXT} for seed in seeds
    ]
    return {"policy": {"all": list(policy)}, "items": sent, "deterministic": True}


def accepted(service: RunningService, body: dict[str, Any]) -> list[bool]:
    """As whichever gateway says that a new connection leads to."""
    reply = httpx.post(f"{service.url}/v1/filter", json=body, timeout=WAIT_S)
    assert reply.status_code == httpx.codes.OK, reply.text
    return [each["verdict"] == "accept" for each in reply.json()["results"]]


def test_every_wire_decides_alike_by_a_threshold_of_the_least_of_twenty(
    service: RunningService, tmp_path: Path
) -> None:
    """At n = 20 and alpha = 0.05, k is 20: the worst good one is the line."""
    with Client(service.url) as rest, GrpcClient(service.target) as grpc:
        scores = values(rest, LABELLED)
        line = sorted(scores)[20]  # the better half is good
        made = rest.calibrate(
            "good", None, scores, [each >= line for each in scores], alpha=0.05, direction="keep_good", combine=REWARD,
            groups=["even" if seed % 2 == 0 else "odd" for seed in LABELLED],
        )  # fmt: skip
        assert (made.threshold, made.k, made.num_used, made.coverage) == (line, 20, 20, 20 / 21)
        assert made.coverage_p05 == pytest.approx(0.05 ** (1 / 20))
        assert made.groups["even"].threshold is None  # of fewer than nineteen
        assert values(grpc, FRESH) == values(rest, FRESH)
        expected = [value >= line for value in values(rest, FRESH)]
        assert 0 < sum(expected) < len(expected)
        time.sleep(LOOK_AGAIN_S)  # by when both gateways look again
        policy = [Threshold("reward", calibration="good")]
        for client in (rest, grpc):
            assert [
                each.is_accepted for each in client.filter(items(FRESH), policy, deterministic=True).results
            ] == expected
        named = document(FRESH, {"scorer": "reward", "calibration": "good"})
        assert [accepted(service, named) for _ in range(6)] == [expected] * 6
        table = tmp_path / "labelled.csv"
        with table.open("w", newline="") as out:
            csv.writer(out).writerows([("qualiclip", "label"), *((0.001 * each, each < 60) for each in range(80))])
        arguments = [
            "--scorer",
            "qualiclip",
            "--alpha",
            "0.1",
            "--direction",
            "reject_bad",
            "--name",
            "worse",
            "--json",
        ]
        ran = CliRunner().invoke(cli, ["calibrate", str(table), *arguments, "--server", service.url])
        assert ran.exit_code == 0, ran.output
        # k = ceil(21 * 0.9) = 19 of the 20 bad ones
        assert json.loads(ran.stdout)["threshold"] == math.nextafter(0.001 * 78, math.inf)
        time.sleep(LOOK_AGAIN_S)
        assert {each.name for each in rest.calibrations()} == {"good", "worse"}
        images, of_four = [encoded(picture(seed), "PNG") for seed in range(4)], values(rest, range(4))
        chosen = [
            each.select(TEXT, images, combine=REWARD, correlation=0.5, deterministic=True) for each in (rest, grpc)
        ]
        assert [list(each.values) for each in chosen] == [of_four] * 2
        assert [each.index for each in chosen] == [of_four.index(max(of_four))] * 2
        assert [each.max_certified_n for each in chosen] == [5, 5]


def test_scores_and_bounds_go_on_while_the_server_is_away_and_decisions_after(
    service: RunningService, postgres: PostgresServer
) -> None:
    by_bounds, by_name = (
        document(range(2), {"scorer": "qualiclip", **bound}) for bound in ({"min": -1e9}, {"calibration": "far"})
    )
    with Client(service.url) as client:
        client.calibrate("far", "qualiclip", [-1e9] * 19, [True] * 19, alpha=0.05, direction="keep_good")
    time.sleep(LOOK_AGAIN_S)
    assert accepted(service, by_name) == [True, True]
    with postgres.stopped():
        time.sleep(LOOK_AGAIN_S)
        for _ in range(4):  # of new connections, so that both gateways are asked
            assert accepted(service, by_bounds) == [True, True]
            refused = httpx.post(f"{service.url}/v1/filter", json=by_name, timeout=WAIT_S)
            assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        scored = {"items": by_bounds["items"], "scorers": ["clipscore"]}
        results = httpx.post(f"{service.url}/v1/score", json=scored, timeout=WAIT_S).json()["results"]
        assert [each["status"] for each in results] == ["ok", "ok"]
        assert httpx.get(f"{service.url}/readyz", timeout=WAIT_S).status_code == httpx.codes.OK
        gone = httpx.delete(f"{service.url}/v1/calibrations/far", timeout=WAIT_S)
        assert gone.status_code == httpx.codes.SERVICE_UNAVAILABLE
    time.sleep(LOOK_AGAIN_S)
    assert accepted(service, by_name) == [True, True]
    assert httpx.delete(f"{service.url}/v1/calibrations/%00", timeout=WAIT_S).status_code == httpx.codes.NOT_FOUND
    assert httpx.delete(f"{service.url}/v1/calibrations/far", timeout=WAIT_S).status_code == httpx.codes.OK
