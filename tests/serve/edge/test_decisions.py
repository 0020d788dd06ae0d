"""Routes about decisions over the assembled service: kept, used, given up; and scoring goes on without the store."""

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline_serve.assembly import assembled
from plumbline_serve.edge import create_app
from plumbline_serve.settings import Settings
from tests.serve.conftest import grey_png

IMAGE = {"b64": base64.b64encode(grey_png(100, 64)).decode()}
ITEM = {"image": IMAGE, "text": "a red circle"}
CALIBRATION = {
    "name": "launch", "scorer": "clipscore", "alpha": 0.05, "direction": "keep_good",
    "scores": [0.0] * 19, "labels": [True] * 19,
}  # fmt: skip
BY_NAME = {"policy": {"all": [{"scorer": "clipscore", "calibration": "launch"}]}, "items": [ITEM]}


@asynccontextmanager
async def gateway(store: str) -> AsyncIterator[httpx.AsyncClient]:
    """A service that computes nothing, as a gateway assembles it."""
    settings = Settings.model_validate({"backend": "fake", "precision": "fp32", "store": store})
    async with assembled(settings) as assembly:
        app = create_app(assembly.service, settings, assembly.instruments)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            yield http


async def test_a_calibration_is_kept_used_and_given_up_by_two_gateways(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        store = f"sqlite:///{tmp_path}/store.db"
        one, other = [await stack.enter_async_context(gateway(store)) for _ in range(2)]
        made = (await one.post("/v1/calibrations", json=CALIBRATION)).json()
        assert made.pop("request_id")
        assert set(made) == {
            "name", "scorer", "alpha", "direction", "threshold", "k", "num_used", "coverage", "coverage_p05",
            "bound_to", "created",
        }  # fmt: skip
        assert (made["threshold"], made["k"], made["num_used"], made["coverage"]) == (0.0, 19, 19, 0.95)
        assert (await other.get("/v1/calibrations")).json() == {"calibrations": [made]}
        assert (await other.get("/v1/calibrations/launch")).json() == made
        [verdict] = (await other.post("/v1/filter", json=BY_NAME)).json()["results"]
        assert (verdict["status"], verdict["verdict"]) == ("ok", "accept")  # no clipscore is below 0
        assert (await one.delete("/v1/calibrations/launch")).json() == {"status": "deleted"}
        for method, path, body in (
            ("GET", "/v1/calibrations/launch", None),
            ("DELETE", "/v1/calibrations/launch", None),
            ("POST", "/v1/filter", BY_NAME),
        ):
            reply = await one.request(method, path, json=body)
            assert (reply.status_code, reply.json()["code"]) == (404, "unknown_artefact")


async def test_a_filter_names_a_calibrated_combination_and_its_drift_is_told(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    combine = {"reward": {"method": "sum", "terms": [{"scorer": "clipscore"}, {"scorer": "qualiclip", "weight": 0.5}]}}
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(gateway(store)) for _ in range(2)]
        made = {**CALIBRATION, "name": "good", "scorer": None, "combine": combine, "scores": [-1e3] * 19}
        assert (await one.post("/v1/calibrations", json=made)).status_code == 200
        named = {"policy": {"all": [{"scorer": "reward", "calibration": "good"}]}, "items": [ITEM]}
        replies = [(await other.post("/v1/filter", json=named | more)).json() for more in ({}, {"combine": combine})]
        assert replies[0]["results"] == replies[1]["results"]
        assert replies[0]["results"][0]["verdict"] == "accept"
        assert "calibration_stale" not in replies[0]
        far = {"scorer": "qualiclip", "values": [100.0 + index for index in range(200)]}
        assert (await other.post("/v1/references", json=far)).status_code == 200
        items = [{"image": {"b64": base64.b64encode(grey_png(level, 64)).decode()}} for level in range(100, 228)]
        await other.post("/v1/score", json={"items": items, "scorers": ["qualiclip"]})
        assert (await other.get("/v1/drift")).json()["scorers"]["qualiclip"]["severity"] != "none"
        assert (await other.post("/v1/filter", json=named)).json()["calibration_stale"] is True
        unknown = {**named, "policy": {"all": [{"scorer": "rewards", "calibration": "good"}]}}
        assert (await other.post("/v1/filter", json=unknown)).json()["code"] == "unknown_scorer"


async def test_too_few_labels_are_said_in_a_reply(tmp_path: Path) -> None:
    async with gateway(f"sqlite:///{tmp_path}/store.db") as http:
        few = CALIBRATION | {"scores": [0.5] * 18, "labels": [True] * 18, "groups": ["a"] * 18}
        reply = await http.post("/v1/calibrations", json=few)
        assert reply.status_code == 200
        assert reply.json()["threshold"] is None
        assert reply.json()["detail"] == "There are 18 scores of good ones; at least 19 are needed."
        assert reply.json()["groups"]["a"]["threshold"] is None
        [failed] = (await http.post("/v1/filter", json=BY_NAME)).json()["results"]
        assert (failed["status"], failed["error"]["code"]) == ("error", "no_threshold")


async def test_a_selection_says_what_it_is_worth(tmp_path: Path) -> None:
    async with gateway(f"sqlite:///{tmp_path}/store.db") as http:
        images = [IMAGE, {"b64": "AAAA"}, {"b64": base64.b64encode(grey_png(200, 64)).decode()}]
        body = {"text": "a red circle", "images": images, "scorer": "clipscore", "correlation": 0.5}
        reply = (await http.post("/v1/select", json=body)).json()
        assert reply["values"][reply["index"]] == max(value for value in reply["values"] if value is not None)
        assert reply["values"][1] is None
        assert [each["index"] for each in reply["errors"]] == [1]
        assert reply["certified_gain"] == pytest.approx(0.13, abs=0.005)  # of two, at r = 0.5
        assert (reply["overoptimised"], "probabilities" in reply) == (False, False)
        assert not (tmp_path / "store.db").exists()


async def test_without_a_store_decisions_are_503_and_scores_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    async with gateway(f"sqlite:///{tmp_path}/file/store.db") as http:
        refused: list[tuple[str, str, Any]] = [
            ("POST", "/v1/calibrations", CALIBRATION),
            ("DELETE", "/v1/calibrations/launch", None),
        ]
        for method, path, body in refused:
            reply = await http.request(method, path, json=body)
            assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")
            assert reply.headers["retry-after"] == "1"
            assert str(tmp_path) not in reply.text
        assert (await http.post("/v1/score", json={"items": [ITEM]})).json()["results"][0]["status"] == "ok"
        bounds = {"policy": {"all": [{"scorer": "clipscore", "min": 0}]}, "items": [ITEM]}
        assert (await http.post("/v1/filter", json=bounds)).status_code == 200
        assert (await http.post("/v1/select", json={"text": "a", "images": [IMAGE]})).status_code == 200
        assert (await http.get("/readyz")).status_code == 200


async def test_a_locked_store_is_503_for_what_names_a_calibration(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database" * 100)
    async with gateway(f"sqlite:///{tmp_path}/store.db") as http:
        assert (await http.post("/v1/filter", json=BY_NAME)).json()["code"] == "store_unavailable"
        assert (await http.get("/v1/calibrations")).status_code == 503
        assert (await http.post("/v1/score", json={"items": [ITEM]})).status_code == 200
        guarded = await http.post("/v1/score", json={"items": [ITEM], "guards": {}})  # no way past a guard
        assert (guarded.status_code, guarded.json()["code"]) == (503, "store_unavailable")


def test_a_route_with_a_name_is_counted_as_one(edge: Any) -> None:
    for name in ("launch", "other"):
        edge.http.delete(f"/v1/calibrations/{name}")
    edge.http.get("/v1/calibrations/launch/more")
    edge.notebook.wait_for(("/v1/calibrations/{name}", "rest", "404"), ("unmatched", "rest", "404"))


@pytest.mark.parametrize(("num_labels", "status"), [(100_000, 200), (100_001, 422)])
async def test_there_is_a_limit_to_how_many_labels(tmp_path: Path, num_labels: int, status: int) -> None:
    labelled = {"scores": [0.5] * num_labels, "labels": [True] * num_labels, "groups": ["a"] * num_labels}
    async with gateway(f"sqlite:///{tmp_path}/store.db") as http:
        assert (await http.post("/v1/calibrations", json=CALIBRATION | labelled)).status_code == status
