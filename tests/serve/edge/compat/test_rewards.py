"""Reward services: trainers' clients get our scores, and every failure makes them do what they should."""

import base64
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serve.edge.compat.reward_clients import TRIES, FlowFactory, FlowGrpo, UniRL, VerlOmni

TEXTS = ["a red circle", "two blue squares"]
Scored = Callable[..., list[float]]


def test_flow_factory_gets_a_reward_for_each_image(edge: Any, image: Callable[..., bytes], scored: Scored) -> None:
    images = [image(1), image(2)]
    assert FlowFactory(edge.url).rewards(TEXTS, images) == scored("clipscore", images, TEXTS)
    named = FlowFactory(f"{edge.url}/compat/vqascore")
    assert named.rewards(TEXTS, images) == scored("vqascore", images, TEXTS)


@pytest.mark.parametrize(
    ("base", "texts", "images", "sentence"),
    [
        pytest.param("", TEXTS, [b"no image", b"none"], "Item 0: .*image", id="image"),
        pytest.param("", TEXTS[:1], [b"a", b"b"], "as many", id="counts"),
        pytest.param("/compat/no-such", TEXTS, [b"a", b"b"], "no scorer", id="scorer"),
    ],
)
def test_flow_factory_stops_at_once_at_what_would_fail_again(
    edge: Any, base: str, texts: list[str], images: list[bytes], sentence: str
) -> None:
    client = FlowFactory(edge.url + base)
    with pytest.raises(RuntimeError, match=sentence):
        client.rewards(texts, images)
    assert client.num_sent == 1


@pytest.mark.parametrize("code", ["overloaded", "deadline_exceeded", "draining"])
def test_flow_factory_tries_again_what_may_pass(rules: Any, code: str) -> None:
    client = FlowFactory(rules.url)
    with pytest.raises(ConnectionError, match=code):
        client.rewards([f"raise {code}"], [b"abc"])
    assert client.num_sent == TRIES
    assert 0 < rules.service.received[0].timeout_ms <= 55_000  # it waits for 60 s, so there is time to queue


def test_flow_factory_does_not_start_before_the_service_is_ready(rules: Any) -> None:
    rules.service.is_ready = False
    with pytest.raises(AssertionError):
        FlowFactory(rules.url)


@pytest.mark.parametrize("field", ["video", "condition_images", "condition_videos"])
def test_what_is_not_scored_is_said(edge: Any, field: str) -> None:
    reply = edge.post("/compute", {"prompt": ["a"], "image": ["AA"], field: [["AA"]]})
    assert "not scored" in reply.json()["error"]


def test_unirl_gets_every_reward_of_every_sample(edge: Any, image: Callable[..., bytes], scored: Scored) -> None:
    client = UniRL(edge.url, ["vqascore", "qualiclip"])
    images = [image(1), image(2, "JPEG")]
    values, errors = client.score(list(zip(TEXTS, images, strict=True)))
    assert [each["vqascore"] for each in values] == scored("vqascore", images, TEXTS)
    assert [each["qualiclip"] for each in values] == scored("qualiclip", images)
    assert errors == [{}, {}]
    assert set(httpx.get(f"{edge.url}/rewards", trust_env=False).json()["rewards"]) == {
        "clipscore", "qualiclip", "vqascore",
    }  # fmt: skip


def test_unirl_hears_of_the_one_bad_image(edge: Any, image: Callable[..., bytes]) -> None:
    values, errors = UniRL(edge.url, ["clipscore"]).score([("a", image(1)), ("b", b"no image"), ("c", image(2))])
    assert [each["clipscore"] is None for each in values] == [False, True, False]
    assert errors[1]["clipscore"].startswith("image_undecodable: ")
    assert (errors[0], errors[2]) == ({}, {})


def test_unirl_may_ask_for_other_rewards_of_each_sample_and_sends_several_turns(
    edge: Any, b64: Callable[..., str], image: Callable[..., bytes], scored: Scored
) -> None:
    turns = [{"text": "old", "image_b64": b64(1)}, {"text": TEXTS[0], "image_b64": b64(2)}]
    requests = [
        {"history": turns, "required_rewards": ["clipscore"]},
        {"history": [{"text": "a", "video_b64": "AA"}], "required_rewards": ["qualiclip"]},
    ]
    body = edge.post("/score", {"requests": requests}).json()
    assert body["results"] == [{"clipscore": {"clipscore": scored("clipscore", [image(2)], TEXTS[:1])[0]}}, {}]
    assert "videos are not scored" in body["errors"][1]["qualiclip"]


@pytest.mark.parametrize(
    ("sample", "status"),
    [
        pytest.param({"history": [{"text": "a"}], "required_rewards": ["no-such"]}, 400, id="reward"),
        pytest.param({"history": [], "required_rewards": ["clipscore"]}, 422, id="no turn"),
        pytest.param({"history": [{"text": "a"}], "required_rewards": []}, 422, id="no reward"),
        pytest.param({"history": [{"image_b64": "AA"}], "required_rewards": ["clipscore"]}, 422, id="no text"),
    ],
)
def test_unirl_is_told_in_its_own_form(edge: Any, sample: dict[str, Any], status: int) -> None:
    reply = edge.post("/score", {"requests": [sample]})
    assert (reply.status_code, type(reply.json()["detail"])) == (status, str)
    with pytest.raises(ValueError, match="not ready"):
        UniRL(edge.url, ["no-such"])


def test_rewards_have_the_scale_that_the_settings_name_and_our_own_routes_have_not(
    scaled: Any, image: Callable[..., bytes], scored: Scored
) -> None:
    images = [image(1), image(2)]
    ours = scored("clipscore", images, TEXTS)
    theirs = [value / 0.75 for value in ours]  # 2.5 * cosine to UniRL's 100 / 30 * cosine
    assert FlowFactory(scaled.url).rewards(TEXTS, images) == theirs
    assert FlowGrpo(f"{scaled.url}/compat/clipscore").outputs(images, prompts=TEXTS) == theirs
    values, _ = UniRL(scaled.url, ["clipscore", "vqascore"]).score(list(zip(TEXTS, images, strict=True)))
    assert [each["clipscore"] for each in values] == theirs
    assert [each["vqascore"] for each in values] == scored("vqascore", images, TEXTS)
    item = {"image": {"b64": base64.b64encode(images[0]).decode()}, "text": TEXTS[0]}
    reply = scaled.post("/v1/score", {"scorers": ["clipscore"], "items": [item]}).json()
    assert reply["results"][0]["scores"]["clipscore"]["value"] == ours[0]


def test_no_samples_are_two_empty_lists(edge: Any) -> None:
    assert edge.post("/score", {"requests": []}).json() == {"results": [], "errors": []}


def test_flow_grpo_gets_a_list_of_plain_numbers(edge: Any, image: Callable[..., bytes], scored: Scored) -> None:
    images = [image(1, "JPEG"), image(2, "JPEG")]
    assert FlowGrpo(edge.url).outputs(images) == scored("qualiclip", images)
    assert FlowGrpo(f"{edge.url}/compat/clipscore").outputs(images, prompts=TEXTS) == scored("clipscore", images, TEXTS)


@pytest.mark.parametrize("protocol", [4, 5])
def test_flow_grpo_may_send_its_prompts_as_an_array_of_numpys(
    edge: Any, image: Callable[..., bytes], scored: Scored, protocol: int
) -> None:
    images = [image(1, "JPEG"), image(2, "JPEG")]
    body = pickle.dumps({"images": images, "prompts": np.array(TEXTS)}, protocol)
    found = pickle.loads(edge.http.post("/", content=body).content)  # noqa: S301 - as the trainer does
    assert found["outputs"] == scored("clipscore", images, TEXTS)


def test_genevals_form_gets_the_lists_that_its_client_reads(
    edge: Any, image: Callable[..., bytes], scored: Scored
) -> None:
    """What the first loaded scorer of probabilities says of each prompt; -10 for an image of another tag."""
    images = [image(1), image(2), image(3)]
    metadata = [
        {"tag": tag, "include": [{"class": "dog", "count": 2}], "prompt": text}
        for tag, text in zip(("counting", "colors", "counting"), [*TEXTS, TEXTS[0]], strict=True)
    ]
    body = pickle.dumps({"images": images, "meta_datas": metadata, "only_strict": True})
    found = pickle.loads(edge.http.post("/", content=body).content)  # noqa: S301 - as the trainer does
    values = scored("vqascore", images, [*TEXTS, TEXTS[0]])
    assert found["scores"] == found["rewards"] == values
    assert found["strict_rewards"] == [float(value >= 0.5) for value in values]
    assert found["group_rewards"] == {
        "counting": [values[0], -10.0, values[2]], "colors": [-10.0, values[1], -10.0],
    }  # fmt: skip
    assert found["group_strict_rewards"].keys() == {"counting", "colors"}


def test_flow_grpo_stops_loudly_at_what_would_fail_again(edge: Any, rules: Any) -> None:
    """Its client unpickles the JSON of such a reply, which is no pickle; a 500 it would try again for 33 hours."""
    for url, images in ((edge.url, [b"no image"]), (rules.url, [b"engine"]), (edge.url, [])):
        with pytest.raises(pickle.UnpicklingError):
            FlowGrpo(url).outputs(images)
    with pytest.raises(pickle.UnpicklingError):
        FlowGrpo(edge.url).outputs([b"x"], meta_datas=[{"prompt": "a"}], only_strict=True)
    with pytest.raises(pickle.UnpicklingError):
        FlowGrpo(f"{edge.url}/compat/clipscore").outputs([b"x"], meta_datas=[{"prompt": "a", "tag": "b"}])
    codes = {code for _, _, code in rules.notebook.requests}
    assert codes == {"502"}


@pytest.mark.parametrize("code", ["overloaded", "not_ready", "draining", "deadline_exceeded"])
def test_flow_grpo_waits_and_tries_again_what_may_pass(rules: Any, code: str) -> None:
    reply = httpx.post(
        rules.url, content=pickle.dumps({"images": [b"x"], "prompts": [f"raise {code}"]}), trust_env=False
    )
    assert reply.status_code in (429, 503)
    assert int(reply.headers["retry-after"]) > 0


def test_verl_omni_gets_its_score(edge: Any, image: Callable[..., bytes], scored: Scored) -> None:
    assert VerlOmni(edge.url).score(image(1), TEXTS[0]) == scored("clipscore", [image(1)], TEXTS[:1])[0]
    assert VerlOmni(f"{edge.url}/compat/vqascore/").score(image(1), "a") == scored("vqascore", [image(1)], ["a"])[0]


def test_verl_omni_gives_up_at_once_or_after_its_tries(edge: Any, rules: Any) -> None:
    stopped, late = VerlOmni(edge.url), VerlOmni(rules.url)
    with pytest.raises(RuntimeError, match="image_undecodable: Item 0"):
        stopped.score(b"no image", "a")
    assert stopped.num_sent == 1
    with pytest.raises(RuntimeError, match="overloaded"):
        late.score(b"x", "raise overloaded")
    assert late.num_sent == TRIES


def test_a_pickle_that_would_run_is_refused_by_the_service(edge: Any, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'made'}",)

    reply = httpx.post(edge.url, content=pickle.dumps({"images": [Hostile()], "metadata": {}}), trust_env=False)
    assert (reply.status_code, reply.json()["error"].partition(":")[0]) == (400, "malformed_request")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("body", [b"", b"{}", b"\x80\x04N.", b"\x80\x04]."], ids=["empty", "JSON", "none", "list"])
def test_a_body_that_is_no_dict_in_a_pickle_is_refused(edge: Any, body: bytes) -> None:
    assert edge.http.post("/", content=body).status_code == 400
