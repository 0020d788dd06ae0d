"""Preference scores on the path of a request, as the gateway assembles it."""

import json

import numpy as np
import pytest

from loadtests.goldens.preference.clips import build_hpsv2, build_pickscore
from loadtests.goldens.preference.drawing import GOLDEN, record
from loadtests.goldens.preference.hps_v3 import build_hpsv3
from loadtests.goldens.preference.image_reward import build_image_reward
from plumbline_models.core.protocols import Embedded
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import (
    EmbedRequest,
    EncodedImage,
    FilterRequest,
    Item,
    RankRequest,
    ScoreRequest,
    Threshold,
)
from plumbline_serve.requests.ranking import probabilities
from plumbline_serve.settings import Settings

FLOAT32 = 2e-5  # of products of up to 100, which the program computes in float64 here
BUILDERS = {
    "pickscore": build_pickscore,
    "hpsv2": build_hpsv2,
    "imagereward": build_image_reward,
    "hpsv3": build_hpsv3,
}
KINDS = {"imagereward": "reward", "hpsv3": "mu"}


@pytest.fixture
async def assembly(tmp_path):
    sections = {}
    for name, build in BUILDERS.items():
        (tmp_path / name).mkdir()
        sections[name] = {"model": str(build(tmp_path / name))}
    sections["integrity"] = {}
    policy = {"exif_orientation": "ignore", "alpha": "drop"}
    settings = Settings(backend="torch", precision="fp32", scorers=sections, cache_dir=tmp_path, images=policy)
    async with assembled(settings) as assembly:
        yield assembly


def picture(name: str) -> EncodedImage:
    return EncodedImage((GOLDEN / "images" / f"{name}.png").read_bytes())


async def test_one_request_has_every_score_of_the_authors_programs(assembly):
    text = record("pickscore")["texts"][0]["text"]
    table = {name: picture(name) for name in ("big_500x375", "tall_97x150", "tiny_9x7")}
    items = [Item(id=name, image=name, text=text) for name in table]
    reply = await assembly.service.score(ScoreRequest(items, images=table))
    for scorer in BUILDERS:
        kind = KINDS.get(scorer, "score")
        matrix, tolerance = record(scorer)["matrix"], record(scorer)["meta"]["tolerance"][kind]
        expected = [matrix[f"{kind}_f64"][0][matrix["images"].index(name)] for name in table]
        found = [result.scores[scorer].value for result in reply.results]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


async def test_candidates_are_ranked_as_by_the_authors_program(assembly):
    golden = record("pickscore")
    texts = {entry["name"]: entry["text"] for entry in golden["texts"]}
    for case in golden["ranks"]:
        images = [picture(name) for name in case["images"]]
        reply = await assembly.service.rank(RankRequest(images, [texts[case["text"]]], scorer="pickscore"))
        assert [place.index for place in reply.ranking] == case["order"]
        found = [place.probability for place in reply.ranking]
        expected = [case["probs_f64"][index] for index in case["order"]]
        assert found == pytest.approx(expected, abs=golden["meta"]["tolerance"]["prob"])


async def test_probabilities_are_of_all_candidates_also_of_those_without_a_place(assembly):
    golden = record("hpsv2")
    names = ["tall_97x150", "big_500x375", "palette_P_128x96"]  # near each other
    scores = np.array([golden["matrix"]["score_f64"][0][golden["matrix"]["images"].index(name)] for name in names])
    weights = np.exp(np.exp(np.float64(np.float16(golden["weights"]["logit_scale"]))) * scores)
    order = np.argsort(-scores)
    images = [picture(name) for name in names]
    request = RankRequest([*images, EncodedImage(b"x")], [golden["texts"][0]["text"]], scorer="hpsv2", top_k=1)
    reply = await assembly.service.rank(request)
    (best,) = reply.ranking
    assert best.index == order[0] == 1
    expected = weights[1] / weights.sum()
    assert 0.4 < expected < 0.6
    assert best.probability == pytest.approx(expected, abs=100 * golden["meta"]["tolerance"]["score"])
    assert list(reply.errors) == [3]


async def test_equal_candidates_stand_by_index_and_are_equally_probable(assembly):
    images = [picture(name) for name in ("tiny_9x7", "tall_97x150", "tiny_9x7", "tall_97x150")]
    reply = await assembly.service.rank(RankRequest(images, ["a red circle on a blue background"], scorer="pickscore"))
    assert [place.index for place in reply.ranking] in ([0, 2, 1, 3], [1, 3, 0, 2])
    first, second, third, fourth = (place.probability for place in reply.ranking)
    assert (first, third) == (second, fourth)
    assert first + second + third + fourth == pytest.approx(1.0)


async def test_no_probability_is_given_of_texts_or_by_scores_of_another_kind(assembly):
    image, texts = picture("tiny_9x7"), ["a fox", "a red circle"]
    by_text = await assembly.service.rank(RankRequest([image], texts, scorer="pickscore"))
    by_reward = await assembly.service.rank(RankRequest([image, image], texts[:1], scorer="imagereward"))
    assert [place.probability for place in (*by_text.ranking, *by_reward.ranking)] == [None] * 4


async def test_features_have_the_probabilities_of_the_authors_program(assembly):
    cases = json.loads((GOLDEN.parent / "sets" / "preference.json").read_text(encoding="utf-8"))["cases"]
    for case in cases:
        given, expected = case["input"], case["expected"]
        features, text = (np.array(given[name]) for name in ("images", "text"))
        images = list(features / np.linalg.norm(features, axis=1, keepdims=True))
        caption = given["logit_scale_exp"] * text / np.linalg.norm(text)
        scores = assembly.scorers["pickscore"].score(Embedded(images=images, captions=[caption] * len(images)))
        assert [score.value for score in scores] == pytest.approx(expected["score_logit_scale_cos"], abs=FLOAT32)
        assert probabilities([score.logit for score in scores]) == pytest.approx(expected["probs"], abs=FLOAT32)


async def test_embedded_texts_have_unit_norm_though_the_scorer_keeps_its_scale_in_them(assembly):
    for scorer in ("pickscore", "hpsv2"):
        reply = await assembly.service.embed(EmbedRequest(texts=["a fox", "a red circle"], scorer=scorer))
        assert [float(np.linalg.norm(vector)) for vector in reply.vectors] == pytest.approx([1.0, 1.0], abs=1e-6)


async def test_a_filter_looks_at_pixels_before_it_runs_a_network(assembly):
    blank = EncodedImage((GOLDEN / "images" / "black_64x64.png").read_bytes())
    items = [Item(id="blank", image=blank, text="a fox"), Item(id="whole", image=picture("big_500x375"), text="a fox")]
    policy = [Threshold("imagereward", min=-100.0), Threshold("integrity", min=0.5)]
    reply = await assembly.service.filter(FilterRequest(policy, items))
    verdicts = {result.id: (result.verdict, list(result.failed), set(result.scores)) for result in reply.results}
    assert verdicts["blank"] == ("reject", ["integrity"], {"integrity"})
    assert verdicts["whole"] == ("accept", [], {"integrity", "imagereward"})
