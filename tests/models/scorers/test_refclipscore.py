"""RefCLIPScore against the authors' program, and against its formula on tiny towers."""

import json
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.errors import MissingTextError
from plumbline_models.core.protocols import BuildContext, Embedded
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.refclipscore import HIGHEST, RefClipScore
from tests.results import succeeded

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "sets" / "clipscore.json").read_text(encoding="utf-8"))
ROUNDING = 3e-7  # of float32 cosines: the program computes in float64
TEXTS = ["a red circle", "two blue squares", "red " * 80]
EAST, NORTH, WEST = (np.array(each, np.float32) for each in ([1, 0], [0, 1], [-1, 0]))


@pytest.fixture(scope="module", params=["torch_fp32", "openvino_fp32"])
def scorer(tiny_folder: Path, request: pytest.FixtureRequest) -> RefClipScore:
    context = BuildContext(request.getfixturevalue(request.param), EncoderRegistry())
    built = RefClipScore.build({"checkpoint": str(tiny_folder), "template": "A photo depicts "}, context)
    built.image.load()
    built.text.load()
    return built


def unit(vectors: list[list[float]]) -> np.ndarray:
    found = np.array(vectors)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_features_have_the_scores_of_the_authors_program(scorer: RefClipScore) -> None:
    (case,) = GOLDEN["cases"]
    given, expected = case["input"], case["expected"]
    references = [list(unit(each)) for each in given["references"]]
    batch = Embedded(images=list(unit(given["image"])), captions=list(unit(given["caption"])), references=references)
    scores = succeeded(scorer.score(batch))
    found = [2.5 * max(score.details["cosine"], 0) for score in scores]
    assert found == pytest.approx(expected["clipscore"], abs=2.5 * ROUNDING)
    found = [score.details["reference_cosine"] for score in scores]
    assert found == pytest.approx(expected["max_reference_cosine"], abs=ROUNDING)
    assert [score.value for score in scores] == pytest.approx(expected["refclipscore"], abs=2.5 * ROUNDING)
    assert 1 < max(expected["refclipscore"]) <= HIGHEST  # its largest is 1.14: CLIPScore's 2.5 is in the mean as it is
    assert np.mean(found) == pytest.approx(np.mean(expected["max_reference_cosine"]), abs=ROUNDING)


def test_towers_and_template_give_the_formula(scorer: RefClipScore) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (image,) = succeeded(scorer.image.encode([scorer.image.preprocess(pixels)]))
    texts = [succeeded(scorer.text.encode([scorer.text.preprocess(text)]))[0] for text in TEXTS]
    batch = Embedded(
        images=[image], captions=[texts[0]], references=[texts[1:]], texts=TEXTS[:1], reference_texts=[TEXTS[1:]]
    )
    (score,) = succeeded(scorer.score(batch))
    rows = np.stack([image, *texts]).astype(np.float64)
    clipscore, likeness = 2.5 * max(rows[0] @ rows[1], 0), max(*(rows[2:] @ rows[1]), 0)
    assert score.value == pytest.approx(2 / (1 / clipscore + 1 / likeness) if clipscore * likeness else 0, abs=1e-6)
    assert score.details["truncated"] is True
    assert "truncated" not in succeeded(scorer.score(Embedded([image], [texts[0]], references=[texts[1:2]])))[0].details


@pytest.mark.parametrize(
    ("image", "reference", "value"),
    [
        pytest.param(EAST, EAST, HIGHEST, id="both the same"),
        pytest.param(EAST, WEST, 0.0, id="references are floored, unlike in the program"),
        pytest.param(WEST, EAST, 0.0, id="the image is floored"),
        pytest.param(NORTH, NORTH, 0.0, id="both zero"),
    ],
)
def test_values_stay_in_their_range(
    scorer: RefClipScore, image: np.ndarray, reference: np.ndarray, value: float
) -> None:
    (score,) = succeeded(scorer.score(Embedded(images=[image], captions=[EAST], references=[[WEST, reference]])))
    assert score.value == pytest.approx(value, abs=1e-6)
    assert (scorer.info.low, scorer.info.high) == (0.0, HIGHEST)


def test_it_shares_its_encoders_with_clipscore(tiny_folder: Path, scorer: RefClipScore, torch_fp32) -> None:
    context = BuildContext(torch_fp32, EncoderRegistry())
    section = {"checkpoint": str(tiny_folder), "template": "A photo depicts "}
    one, other = ClipScore.build(section, context), RefClipScore.build(section, context)
    assert one.image is other.image
    assert one.text is other.text
    assert one.relative_cost < other.relative_cost
    assert scorer.conventions["template"] == "A photo depicts "


def test_a_batch_without_references_is_refused(scorer: RefClipScore) -> None:
    with pytest.raises(MissingTextError, match="needs references"):
        scorer.score(Embedded(images=[EAST], captions=[EAST]))
