"""Preference scores on the path of a request, as the gateway assembles it."""

import numpy as np
import pytest

from loadtests.goldens.preference.clips import build_hpsv2, build_pickscore
from loadtests.goldens.preference.drawing import GOLDEN, record
from loadtests.goldens.preference.image_reward import build_image_reward
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
from plumbline_serve.settings import Settings

BUILDERS = {"pickscore": build_pickscore, "hpsv2": build_hpsv2, "imagereward": build_image_reward}


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
        kind = "reward" if scorer == "imagereward" else "score"
        matrix, tolerance = record(scorer)["matrix"], record(scorer)["meta"]["tolerance"][kind]
        expected = [matrix[f"{kind}_f64"][0][matrix["images"].index(name)] for name in table]
        found = [result.scores[scorer].value for result in reply.results]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


async def test_candidates_are_ranked_as_by_the_authors_program(assembly):
    golden = record("pickscore")
    texts = {entry["name"]: entry["text"] for entry in golden["texts"]}
    case = golden["ranks"][0]
    images = [picture(name) for name in case["images"]]
    reply = await assembly.service.rank(RankRequest(images, [texts[case["text"]]], scorer="pickscore"))
    assert [place.index for place in reply.ranking] == case["order"]


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
