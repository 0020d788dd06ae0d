"""Real encoders and scorers behind both edges, without Ray: a scorer of another package, and all of ours at once."""

import base64
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import save_file

from plumbline_models.core.errors import ConfigError
from plumbline_serve.assembly import assemble, local_compute
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.metrics import Instruments
from plumbline_serve.settings import Settings
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.installed_package import installed

TESTS = Path(__file__).parents[2]
TEXT = "a red circle"
RN_CONFIG = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def png(seed: int, height: int = 80, width: int = 96) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def serve(open_over: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The application as the gateway assembles it, over the sections of a configuration."""

    def server(sections: dict[str, Any]) -> Any:
        settings = Settings(backend="torch", precision="fp32", scorers=sections, cache_dir=tmp_path / "cache")
        scorers, instruments = make_scorers(settings), Instruments()
        compute = local_compute(settings, encoders_of(scorers.values()), instruments)
        service = assemble(settings, scorers, compute=compute, instruments=instruments).service
        edge = open_over(settings, service)
        edge.closers.insert(0, lambda: edge.loop.run(compute.close()))
        edge.loop.run(compute.start())
        service.is_loaded = True
        return edge

    return server


def ask(edge: Any, images: dict[str, bytes], items: list[tuple[str, str]]) -> tuple[list[Any], list[Any]]:
    """The same request over REST and gRPC."""
    document = {
        "images": {name: {"b64": base64.b64encode(data).decode()} for name, data in images.items()},
        "items": [{"image": image, "text": text} for image, text in items],
    }
    message = pb.ScoreRequest(
        images={name: pb.ImageSource(data=data) for name, data in images.items()},
        items=[pb.Item(image_key=image, text=text) for image, text in items],
    )
    return edge.post("/v1/score", document).json()["results"], list(edge.rpc.Score(message).results)


@pytest.fixture
def agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scorer's package, with entry points of others that cannot be loaded."""
    names = {"agreement": "agreement:Agreement", "misnamed": "agreement:Agreement"}
    names |= {"missing": "nowhere:Scorer", "plain": "math:pi"}
    site = installed(tmp_path, TESTS / "serve" / "agreement.py", names)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "agreement", raising=False)
    return site


@pytest.mark.usefixtures("agreement")
def test_a_scorer_of_another_package_answers_on_both_wires(serve: Callable[..., Any]) -> None:
    edge = serve({"clipscore": {}, "agreement": {}})
    [rest], [rpc] = ask(edge, {"a": png(1)}, [("a", TEXT)])
    cosine = rest["scores"]["clipscore"]["cosine"]
    assert rest["scores"]["agreement"]["value"] == pytest.approx((1 + cosine) / 2, abs=1e-7)
    assert rpc.scores["agreement"].value == rest["scores"]["agreement"]["value"]
    listed = {entry["id"]: entry for entry in edge.http.get("/v1/scorers").json()["scorers"]}
    assert listed["agreement"]["encoders"] == listed["clipscore"]["encoders"]
    assert listed["agreement"]["conventions"] == {"value": "(1 + cosine) / 2"}
    assert [entry.id for entry in edge.rpc.ListScorers(pb.ListScorersRequest()).scorers] == ["clipscore", "agreement"]


@pytest.mark.usefixtures("agreement")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("misnamed", "calls itself agreement", id="another name"),
        pytest.param("missing", "missing of agreement does not import", id="no such module"),
        pytest.param("plain", "math:pi of agreement is no scorer", id="no scorer"),
        pytest.param("agrement", "did you mean agreement", id="spelling"),
    ],
)
def test_a_scorer_that_cannot_be_had_stops_the_start(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_scorers(Settings(backend="torch", scorers={name: {}}, cache_dir=tmp_path))


@pytest.fixture
def all_scorers(tmp_path: Path) -> dict[str, Any]:
    """Every scorer of ours: two on the embedded CLIP, two on tiny weights of the published layouts."""
    torch.manual_seed(11)
    clip = open_clip.model.CLIP(RN_CONFIG["embed_dim"], RN_CONFIG["vision_cfg"], RN_CONFIG["text_cfg"], quick_gelu=True)
    folder = tmp_path / "quality"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_cfg": RN_CONFIG}), encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in clip.state_dict().items() if name != "attn_mask"}
    save_file(state, folder / "weights.safetensors")
    flant5 = TESTS / "golden" / "vqascore" / "clip_flant5_tiny"
    return {
        "clipscore": {}, "fclipscore": {}, "vqascore": {"model": str(flant5)},
        "qualiclip": {"checkpoint": str(folder), "scale": 50},
    }  # fmt: skip


def test_all_scorers_share_what_each_image_needs(serve: Callable[..., Any], all_scorers: dict[str, Any]) -> None:
    edge = serve(all_scorers)
    before = counts(edge)
    images = {"a": png(1), "b": png(2), "small": png(3, height=24)}
    items = [("a", TEXT), ("a", "two blue squares"), ("b", TEXT), ("small", TEXT)]
    document = {
        "images": {name: {"b64": base64.b64encode(data).decode()} for name, data in images.items()},
        "items": [{"image": image, "text": text} for image, text in items],
    }
    results = edge.post("/v1/score", document).json()["results"]
    assert [set(result["scores"]) for result in results] == [set(all_scorers)] * 4
    stage_seconds = {name: number - before.get(name, 0) for name, number in counts(edge).items()}
    keys = {entry["key"]: entry["kind"] for entry in edge.http.get("/v1/models").json()["models"]}
    assert stage_seconds["decode"] == len(images)
    encoded = {key: stage_seconds[key] for key in keys}
    assert encoded == {key: _expected(key, kind) for key, kind in keys.items()}


def _expected(key: str, kind: str) -> int:
    """Inputs of the request above: images, texts and pairs, each distinct one once; one image is too small for one."""
    if key.endswith("/qualiclip"):
        return 2
    return {"image": 3, "text": 2, "pair": 4}[kind]


def counts(edge: Any) -> dict[str, float]:
    """Images decoded, and inputs that each encoder was given."""
    text = edge.http.get("/metrics").text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "plumbline_batch_size_sum":
                found[sample.labels["model"]] = sample.value
            if sample.name == "plumbline_stage_duration_seconds_count" and sample.labels["stage"] == "decode":
                found["decode"] = sample.value
    return found


def test_a_scorer_that_fails_for_an_item_says_so_and_leaves_the_others(
    serve: Callable[..., Any], all_scorers: dict[str, Any]
) -> None:
    edge = serve(all_scorers)
    [rest], [rpc] = ask(edge, {"small": png(3, height=24)}, [("small", TEXT)])
    failed = rest["scores"].pop("qualiclip")["error"]
    assert rest["status"] == "ok"
    assert failed["code"] == "image_too_small"
    assert "at least 31" in failed["detail"]
    assert all(math.isfinite(score["value"]) for score in rest["scores"].values())
    assert rpc.scores["qualiclip"].error.message == failed["detail"]
    for name, score in rest["scores"].items():
        assert rpc.scores[name].value == score["value"]


def test_scorers_say_what_their_numbers_mean(serve: Callable[..., Any], all_scorers: dict[str, Any]) -> None:
    edge = serve(all_scorers)
    rest = {entry["id"]: entry for entry in edge.http.get("/v1/scorers").json()["scorers"]}
    rpc = {entry.id: entry for entry in edge.rpc.ListScorers(pb.ListScorersRequest()).scorers}
    for name, entry in rest.items():
        assert entry["paper"].startswith("arXiv:")
        assert entry["licence"]
        assert entry["higher_is_better"] is True
        assert entry["conventions"] == dict(rpc[name].conventions)
        assert entry["licence"] == rpc[name].licence
    assert rest["qualiclip"]["conventions"]["scale"] == "50"
    assert rest["qualiclip"]["context_length"] is None
    assert not rpc["qualiclip"].HasField("context_length")
    assert rest["fclipscore"]["context_length"] == rpc["fclipscore"].context_length == 77
    notes = {entry["key"]: entry["notes"] for entry in edge.http.get("/v1/models").json()["models"]}
    assert notes[rest["qualiclip"]["encoders"][0]]["qualiclip.scale"] == "50"
    assert notes["mini-clip/attribution"]["fclipscore.epsilon"] == rest["fclipscore"]["conventions"]["epsilon"]


def test_the_demonstration_networks_are_named_on_both_wires(
    serve: Callable[..., Any], all_scorers: dict[str, Any]
) -> None:
    edge = serve(all_scorers)
    expected = {"clipscore": True, "fclipscore": True, "vqascore": False, "qualiclip": False}
    rest = {entry["id"]: entry.get("demo", False) for entry in edge.http.get("/v1/scorers").json()["scorers"]}
    rpc = {entry.id: entry.demo for entry in edge.rpc.ListScorers(pb.ListScorersRequest()).scorers}
    assert rest == rpc == expected
    rest = {entry["key"]: entry.get("demo", False) for entry in edge.http.get("/v1/models").json()["models"]}
    rpc = {entry.key: entry.demo for entry in edge.rpc.ListModels(pb.ListModelsRequest()).models}
    assert rest == rpc
    assert {key.split("/")[0] for key, is_demo in rest.items() if is_demo} == {"mini-clip"}


def test_a_text_that_is_cut_is_said_to_be_on_both_wires(serve: Callable[..., Any]) -> None:
    edge = serve({"clipscore": {}, "fclipscore": {}})
    image, texts = png(1), [TEXT, "red " * 200]
    source = {"b64": base64.b64encode(image).decode()}
    rest, rpc = ask(edge, {"a": image}, [("a", text) for text in texts])
    for scorer in ("clipscore", "fclipscore"):
        assert [each["scores"][scorer].get("truncated") for each in rest] == [None, True]
        assert [each.scores[scorer].truncated for each in rpc] == [False, True]
        assert not any(each.scores[scorer].HasField("details") for each in rpc)
        ranked = edge.post("/v1/rank", {"image": source, "texts": texts, "scorer": scorer}).json()["ranking"]
        assert {each["index"]: each.get("truncated") for each in ranked} == {0: None, 1: True}
        asked = pb.RankRequest(image=pb.ImageSource(data=image), texts=texts, scorer=scorer)
        assert {each.index: each.truncated for each in edge.rpc.Rank(asked).ranking} == {0: False, 1: True}
    policy = {"all": [{"scorer": "clipscore", "min": 0}]}
    judged = edge.post("/v1/filter", {"policy": policy, "items": [{"image": source, "text": texts[1]}]}).json()
    assert judged["results"][0]["scores"]["clipscore"]["truncated"] is True
    assert edge.post("/v1/embed", {"texts": texts}).json()["truncated"] == [1]
    assert "truncated" not in edge.post("/v1/embed", {"texts": texts[:1]}).json()
    assert "truncated" not in edge.post("/v1/embed", {"images": [source]}).json()
    assert list(edge.rpc.Embed(pb.EmbedRequest(texts=texts)).truncated) == [1]


def test_a_blank_caption_scores_fclipscores_best_and_a_filter_can_reject_it(serve: Callable[..., Any]) -> None:
    edge = serve({"fclipscore": {}})
    items = [{"image": {"b64": base64.b64encode(png(1)).decode()}, "text": "  "}]
    [scored] = edge.post("/v1/score", {"items": items}).json()["results"]
    [entry] = edge.http.get("/v1/scorers").json()["scorers"]
    assert scored["scores"]["fclipscore"]["value"] == entry["high"] == 0
    assert "without words scores 0" in entry["summary"]
    condition: dict[str, Any] = {"scorer": "fclipscore", "min": -1, "min_words": 1}
    [judged] = edge.post("/v1/filter", {"policy": {"all": [condition]}, "items": items}).json()["results"]
    reasons = {"fclipscore": "The text has 0 words; at least 1 are asked for."}
    assert (judged["verdict"], judged["failed"], judged["reasons"]) == ("reject", ["fclipscore"], reasons)
    item = pb.Item(image=pb.ImageSource(data=png(1)), text="  ")
    asked = pb.FilterRequest(policy=pb.Policy(all=[pb.Threshold(**condition)]), items=[item])
    [verdict] = edge.rpc.Filter(asked).results
    assert (verdict.verdict, dict(verdict.reasons)) == (pb.VERDICT_REJECT, reasons)
