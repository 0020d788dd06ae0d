"""Drift and classifiers as callers of REST see them: the routes over a whole service in this process."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from plumbline_serve.assembly import assembled
from plumbline_serve.edge import create_app
from plumbline_serve.settings import Settings


def image(level: int) -> dict[str, str]:
    out = io.BytesIO()
    pixels = np.random.default_rng(level).integers(0, 1 + level, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return {"b64": base64.b64encode(out.getvalue()).decode()}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    store = SecretStr(f"sqlite:///{tmp_path}/store.db")
    settings = Settings(backend="fake", scorers={"clipscore": {}, "qualiclip": {}}, store=store)
    async with assembled(settings) as assembly:
        transport = httpx.ASGITransport(create_app(assembly.service, settings, assembly.instruments))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def posted(http: httpx.AsyncClient, path: str, **document: Any) -> Any:
    reply = await http.post(path, json=document)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_drift_of_scores_makes_a_calibrated_filter_stale(http):
    labelled = {"scores": [0.1 * i for i in range(20)], "labels": [True] * 20, "direction": "keep_good", "alpha": 0.1}
    await posted(http, "/v1/calibrations", name="launch", scorer="clipscore", **labelled)
    request = {
        "policy": {"all": [{"scorer": "clipscore", "calibration": "launch"}]},
        "items": [{"image": image(9), "text": "a red circle"}],
    }
    assert "calibration_stale" not in await posted(http, "/v1/filter", **request)
    made = await posted(http, "/v1/references", scorer="clipscore", values=[5 + i / 100 for i in range(200)])
    assert (made["n"], sum(made["counts"]), made["images"]) == (200, 200, [])
    items = [{"image": image(level), "text": f"{level}"} for level in range(1, 126)]
    for first in (0, 60):
        await posted(http, "/v1/score", items=items[first : first + 65], scorers=["clipscore"])
    drift = (await http.get("/v1/drift")).json()["scorers"]["clipscore"]
    assert (drift["n"], drift["m"], drift["severity"], drift["images"]) == (200, 131, "high", {})
    assert drift["triggered"] == ["score"]
    assert (await posted(http, "/v1/filter", **request))["calibration_stale"] is True
    metrics = (await http.get("/metrics")).text
    assert 'plumbline_drift_severity{scorer="clipscore"} 3.0' in metrics
    assert (await http.delete("/v1/references/clipscore")).json() == {"status": "deleted"}
    assert (await http.get("/v1/drift")).json() == {"scorers": {}}
    assert "calibration_stale" not in await posted(http, "/v1/filter", **request)


async def test_drift_of_a_term_makes_a_filter_by_a_calibrated_combination_stale(http):
    combine = {"reward": {"method": "sum", "terms": [{"scorer": "clipscore"}, {"scorer": "qualiclip", "weight": 0.1}]}}
    labelled = {"scores": [0.1 * i for i in range(20)], "labels": [True] * 20, "direction": "keep_good", "alpha": 0.1}
    made = await posted(http, "/v1/calibrations", name="launch", combine=combine, **labelled)
    assert (made["scorer"], made["threshold"]) == ("reward", 0.1)
    request = {
        "policy": {"all": [{"scorer": "reward", "calibration": "launch"}]},
        "items": [{"image": image(9), "text": "a red circle"}],
    }
    asked = request | {"combine": made["combine"]}  # a reply's combination is one that requests take
    assert "calibration_stale" not in await posted(http, "/v1/filter", **asked)
    listed = (await http.get("/v1/calibrations")).json()["calibrations"]
    assert [each["combine"] for each in listed] == [made["combine"]]
    other = {"reward": combine["reward"] | {"terms": combine["reward"]["terms"][:1]}}
    refused = await http.post("/v1/filter", json=request | {"combine": other})
    assert (refused.status_code, refused.json()["code"]) == (422, "bound_to_other")
    assert "another combination by the name of reward" in refused.json()["detail"]
    await posted(http, "/v1/references", scorer="clipscore", values=[5 + i / 100 for i in range(200)])
    items = [{"image": image(level), "text": f"{level}"} for level in range(1, 126)]
    await posted(http, "/v1/score", items=items, scorers=["clipscore"])
    assert (await http.get("/v1/drift")).json()["scorers"]["clipscore"]["severity"] == "high"
    assert (await posted(http, "/v1/filter", **asked))["calibration_stale"] is True


async def test_a_classifier_scores_and_is_forgotten(http):
    classes = {"yes": [image(200), image(210)], "no": [image(20), image(30)]}
    prompts = {"yes": "noise", "no": "dark"}
    made = await posted(http, "/v1/classifiers", name="noise", classes=classes, prompts=prompts)
    assert (made["name"], made["classes"], made["num_images"]) == ("noise", ["yes", "no"], 4)
    scored = await posted(http, "/v1/score", items=[{"image": image(99)}], scorers=["classifier:noise"])
    value = scored["results"][0]["scores"]["classifier:noise"]
    assert value["value"] == value["probabilities"]["yes"]
    assert [each["name"] for each in (await http.get("/v1/classifiers")).json()["classifiers"]] == ["noise"]
    listed = (await http.get("/v1/scorers")).json()["scorers"]
    assert [each["id"] for each in listed] == ["clipscore", "qualiclip", "classifier:noise"]
    assert (listed[2]["needs"], listed[2]["low"], listed[2]["high"]) == (["image"], 0.0, 1.0)
    assert 'plumbline_items_total{outcome="ok",scorer="classifier"} 1.0' in (await http.get("/metrics")).text
    assert (await http.delete("/v1/classifiers/noise")).status_code == 200
    gone = await http.post("/v1/score", json={"items": [{"image": image(99)}], "scorers": ["classifier:noise"]})
    assert (gone.status_code, gone.json()["code"]) == (422, "unknown_scorer")
    missing = await http.delete("/v1/classifiers/noise")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_artefact")


async def test_guards_are_null_without_an_artefact(http):
    request = {"items": [{"image": image(9), "text": "a"}], "scorers": ["clipscore"], "guards": {"views": True}}
    (result,) = (await posted(http, "/v1/score", **request))["results"]
    assert result["guards"] == {
        "fooling_suspect": None,
        "ood_score": None,
        "adversarial_suspect": None,
        "policy": None,
    }
