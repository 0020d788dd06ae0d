"""Rows through a service, over gRPC and REST: the real edge and the real client, mostly over a service of rules."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline_models.core.errors import MissingScopeError, OverloadedError, PlumblineError, UnknownScorerError
from plumbline_serve.cli.main import cli
from plumbline_serve.messages import EmbedRequest
from plumbline_serve.offline.outputs import open_scored
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners import through_server
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.runners.through_server import Server, ServerRunner
from plumbline_serve.scheduling.request_context import ANYONE
from plumbline_serve.settings import Settings
from tests.serve.edge.rule_service import RuleService
from tests.serve.offline.samples import image_bytes
from tests.serve.offline.test_videos import write_video


def rows(num_rows: int, text: str = "hi") -> list[Row]:
    return [Row(number, f"{number}.png", image=bytes([number % 251]) * 3, text=text) for number in range(num_rows)]


@pytest.fixture(params=["grpc", "rest"])
def address_of(request) -> Callable[[Any], str]:
    """Of a service, as a user names it."""
    return lambda edge: edge.target if request.param == "grpc" else edge.url


def scored(address: str, given: list[Row], scorers: list[str] | None = None) -> list[Scored]:
    with ServerRunner(Server(address), scorers) as runner:
        return list(runner.score(given))


def value(result: Scored) -> float:
    found: float = result.result["scores"]["sum"]["value"]
    return found


def test_rows_come_back_in_their_order_over_many_windows(edge, address_of, monkeypatch) -> None:
    monkeypatch.setattr(through_server, "WINDOW", 3)
    given = rows(70)
    results = scored(address_of(edge), given)
    assert [each.row.number for each in results] == list(range(70))
    assert [value(each) for each in results] == [float(number % 251) for number in range(70)]
    assert {request.priority for request in edge.service.received} == {"batch"}


def test_what_is_too_many_for_the_service_is_sent_in_halves_and_learnt(edge, address_of) -> None:
    with ServerRunner(Server(address_of(edge))) as runner:
        assert [each.row.number for each in runner.score(rows(64))] == list(range(64))
        edge.service.received.clear()
        list(runner.score(rows(16)))
    assert {len(request.items) for request in edge.service.received} == {8}


def test_what_is_kept_of_a_run_has_classifiers_only_where_they_are_named(edge) -> None:
    edge.service.learnt["logo"] = None
    try:
        with ServerRunner(Server(edge.target)) as runner:
            assert runner.facts.scorers.keys() == {"sum"}
        with ServerRunner(Server(edge.target), ["classifier:logo"]) as runner:
            assert runner.facts.scorers.keys() == {"classifier:logo"}
    finally:
        del edge.service.learnt["logo"]


def test_a_row_that_is_refused_alone_fails_alone(edge, address_of) -> None:
    large = Row(0, "large.png", image=bytes(3 * 2**19), text="x")
    first, second = scored(address_of(edge), [large, Row(1, "b.png", image=b"\x03", text="x")])
    assert first.result["error"]["code"] == "request_too_large"
    assert value(second) == 1.0


def test_rows_that_cannot_be_read_are_not_sent(edge, address_of, tmp_path: Path) -> None:
    given = [Row(0, "none.png", image=tmp_path / "none.png"), *rows(3)[1:]]
    results = scored(address_of(edge), given)
    assert [each.result["status"] for each in results] == ["error", "ok", "ok"]
    assert [len(request.items) for request in edge.service.received] == [2]


class Busy:
    """Refuses the first requests for lack of room."""

    def __init__(self, inner: Any, num_refused: int) -> None:
        self._inner, self._left, self._lock = inner, num_refused, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def score(self, request: Any, caller: Any = None) -> Any:
        with self._lock:
            self._left -= 1
            if self._left >= 0:
                raise OverloadedError("Full.", retry_after_s=0.01)
        return await self._inner.score(request)


def test_a_busy_service_is_asked_again(edge, address_of, open_over) -> None:
    busy = open_over(edge.settings, Busy(edge.service, num_refused=2))
    results = scored(address_of(busy), rows(20))
    assert [each.result["status"] for each in results] == ["ok"] * 20


def test_nothing_is_sent_to_a_service_without_the_scorer(edge, address_of) -> None:
    with pytest.raises(UnknownScorerError):
        scored(address_of(edge), rows(1), ["vibes"])


def test_a_service_that_is_not_there_or_wants_a_key_is_said(edge, guarded_edge) -> None:
    for address in ("127.0.0.1:1", "http://127.0.0.1:1", "ftp://localhost", guarded_edge.target, guarded_edge.url):
        with pytest.raises(PlumblineError):
            scored(address, rows(1))


def test_the_command_scores_through_a_service(guarded_edge, address_of, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(bytes([3 * number]))
    table = tmp_path / "rows.jsonl"
    lines = [{"image": f"{number}.png", "text": "hi", "seed": number} for number in range(5)]
    table.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    arguments = ["batch", str(table), "-o", str(tmp_path / "out.parquet"), "--server", address_of(guarded_edge)]
    ran = CliRunner().invoke(cli, arguments, env={"PLUMBLINE_API_KEY": "first-key"})
    assert ran.exit_code == 1, ran.output
    assert isinstance(ran.exception, SystemExit), ran.exception
    found = open_scored(tmp_path / "out.parquet")
    assert [(line["seed"], line["sum"]) for line in found.lines()] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    said = {name.rpartition(".")[2] for line in found.lines() for name in line}
    assert said.isdisjoint({"answers", "failed", "rates"})  # no scorer here asks questions
    assert found.facts.scorers["sum"].conventions == {"scale": "2"}
    assert found.facts.scorers["sum"].weights == {"mini/image": "00"}
    [failed] = (tmp_path / "out.failed.jsonl").read_text().splitlines()
    assert json.loads(failed)["row"] == 4


def test_frames_and_videos_go_through_a_service_that_decodes_none(open_embedded, tmp_path: Path, monkeypatch) -> None:
    settings = Settings(backend="torch", precision="fp32", scorers={"clipscore": {}}, cache_dir=tmp_path / "cache")
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(image_bytes(number))
    write_video(tmp_path / "a.mp4")
    frames = [f"{number}.png" for number in range(3)]
    lines = [
        *({"frames": frames, "text": "hi", "pool": pool} for pool in ("mean", "min", "clip4clip")),
        {"image": "a.mp4", "text": "hi"},
        {"frames": [*frames, "none.png"], "text": "hi"},
        *({"image": name, "text": "hi"} for name in frames),
    ]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    for name, value in {"BACKEND": "torch", "PRECISION": "fp32", "CACHE_DIR": tmp_path / "cache"}.items():
        monkeypatch.setenv(f"PLUMBLINE_{name}", str(value))
    shared = ["batch", str(table), "--scorers", "clipscore", "--frames", "4", "-o"]
    ran = CliRunner().invoke(
        cli, [*shared, str(tmp_path / "there.parquet"), "--server", open_embedded(settings).target]
    )
    assert (ran.exit_code, type(ran.exception)) == (1, SystemExit), ran.output
    assert CliRunner().invoke(cli, [*shared, str(tmp_path / "here.parquet")]).exit_code == 1
    there, here = (list(open_scored(tmp_path / f"{name}.parquet").lines()) for name in ("there", "here"))
    assert [line["row"] for line in there] == [line["row"] for line in here] == [0, 1, 2, 3, 5, 6, 7]
    alone = [line["clipscore"] for line in there[4:]]
    assert [len(line["clipscore.frames"] or ()) for line in there] == [3, 3, 3, 4, 0, 0, 0]
    assert there[0]["clipscore.frames"] == pytest.approx(alone, abs=1e-6)  # batches are made as inputs arrive
    assert there[0]["clipscore"] == pytest.approx(sum(alone) / 3, abs=1e-6)
    assert there[1]["clipscore"] == min(there[1]["clipscore.frames"])
    assert there[2]["clipscore"] > there[0]["clipscore"]  # the mean of unit vectors is made longer again
    for line, same in zip(there, here, strict=True):
        assert line["clipscore"] == pytest.approx(same["clipscore"], abs=1e-6)


def test_a_set_is_measured_by_the_encodings_that_the_service_gives(edge, address_of, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(bytes([1 + number % 11]))
    lines = [{"image": f"{number}.png", "text": "hi", "seed": number % 2} for number in range(13)]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    ran = CliRunner().invoke(
        cli,
        ["batch", str(table), "-o", str(tmp_path / "out"), "--server", address_of(edge), "--set", "--set-by", "seed"],
    )
    assert (ran.exit_code, type(ran.exception)) == (1, SystemExit), ran.output
    document = json.loads((tmp_path / "out" / "sets.json").read_text())
    assert (document["encoder"], document["weights"]) == ("mini/image", "00")
    assert [(each["group"], each["n"]) for each in document["sets"]] == [(None, 12), ("0", 6), ("1", 6)]
    assert document["sets"][0]["identical"] == [[0, 11]]
    assert document["sets"][0]["duplicates"] == [[*range(12)]]  # the rule's vectors all point the same way
    sent = [len(each.images) for each in edge.service.received if isinstance(each, EmbedRequest) and each.images]
    assert sent == [1, 6, 6]  # a first look; then twelve, which are too many at once, in halves


def test_a_service_that_gives_no_encodings_is_said_before_anything_is_scored(open_over, edge) -> None:
    class Private(RuleService):
        async def embed(self, request, caller=ANYONE):
            raise MissingScopeError("This service gives no embeddings.")

    service = Private()
    closed = open_over(edge.settings, service)
    with pytest.raises(PlumblineError, match="cannot be measured: This service gives no embeddings"):
        ServerRunner(Server(closed.target), makes_members=True).__enter__()
    assert service.received == []
