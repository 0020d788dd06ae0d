"""VQAScore end to end against the authors' own program, on the same tiny weights, by every backend."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.engines import Backend
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, PairInput, Score
from plumbline_models.scorers.vqascore import VqaScore
from tests.results import succeeded

TOLERANCE = 1e-5  # float32 rounding; the record's own float32 and float64 runs differ by less than 1e-6
CASES = (
    "matrix",
    "edge_texts",
    "custom_question",
    "answer_no",
    "answer_lower_yes",
    "caption_likelihood",
    "style_no_system",
    "style_no_system_no_user",
    "style_plain",
    "aspect_square",
)


class OwnRegistry:
    """Shares encoders as the service does: one a key."""

    def __init__(self) -> None:
        self.kept: dict[str, Encoder] = {}

    def take(self, encoder: Encoder) -> Encoder:
        return self.kept.setdefault(encoder.key, encoder)


@dataclass
class Loaded:
    """A scorer with what it needs to answer."""

    scorer: VqaScore

    def encode_images(self, images: Sequence[Any]) -> list[Any]:
        encoder = self.scorer.image
        return list(encoder.encode([encoder.preprocess(pixels) for pixels in images]))

    def scores(self, pairs: Sequence[tuple[Any, str]]) -> list[Score]:
        encoder = self.scorer.pair
        preprocessed = [encoder.preprocess(PairInput(caption, encoding)) for encoding, caption in pairs]
        results: list[Any] = [None] * len(pairs)
        buckets: dict[Any, list[int]] = {}
        for index, one in enumerate(preprocessed):
            buckets.setdefault(encoder.bucket(one), []).append(index)
        for indices in buckets.values():
            for index, encoding in zip(indices, encoder.encode([preprocessed[i] for i in indices]), strict=True):
                results[index] = encoding
        return succeeded(self.scorer.score(Embedded(pairs=results)))


@pytest.fixture(scope="module", params=["torch", "openvino"])
def backend(request, tmp_path_factory) -> Backend:
    tuning = Tuning(cache_dir=tmp_path_factory.mktemp("engines"), num_threads=1)
    return open_backend(request.param, precision="fp32", tuning=tuning)


@pytest.fixture(scope="module")
def load(backend, tiny) -> Callable[..., Loaded]:
    """Makes a scorer of the tiny checkpoint; engines are shared through the backend's cache and the registry."""
    context = BuildContext(backend=backend, registry=OwnRegistry())

    def make(**options: Any) -> Loaded:
        scorer = VqaScore.build({"model": str(tiny), **options}, context)
        scorer.image.load()
        scorer.pair.load()
        return Loaded(scorer)

    return make


@pytest.mark.parametrize("name", CASES)
def test_scores_are_the_authors(name, load, golden, images):
    case = next(case for case in golden["cases"] if case["id"] == name)
    scorer = load(
        question=case["question_template"],
        answer=case["answer_template"],
        conversation=case["conversation"],
        image_aspect_ratio=case["image_aspect_ratio"],
    )
    encodings = scorer.encode_images([images[name] for name in case["images"]])
    scores = scorer.scores([(encoding, text) for encoding in encodings for text in case["texts"]])
    found = np.array([score.value for score in scores]).reshape(len(encodings), len(case["texts"]))
    np.testing.assert_allclose(found, case["scores_official_fp32"], atol=TOLERANCE, rtol=0)
    if "scores_ref_f64" in case:
        np.testing.assert_allclose(found, case["scores_ref_f64"], atol=TOLERANCE, rtol=0)


def test_every_recorded_case_is_tested(golden):
    assert {case["id"] for case in golden["cases"]} == set(CASES)


def test_ragged_pairs_of_different_images_score_as_the_authors(load, golden, images):
    recorded = golden["one_text_per_image"]
    scorer = load()
    encodings = scorer.encode_images([images[name] for name in recorded["images"]])
    scores = scorer.scores(list(zip(encodings, recorded["texts"], strict=True)))
    np.testing.assert_allclose(
        [score.value for score in scores], recorded["scores_official_fp32"], atol=TOLERANCE, rtol=0
    )


def test_the_logarithms_beside_the_score_are_those_of_the_record(load, golden, images, stages):
    case = golden["cases"][0]
    scorer = load()
    (score,) = scorer.scores([(scorer.encode_images([images[case["images"][0]]])[0], case["texts"][0])])
    yes, end = golden["pair0_logprobs_yes_eos"]
    assert score.details["log_p_yes"] == pytest.approx(yes, abs=2e-5)
    assert score.details["log_p_eos"] == pytest.approx(end, abs=2e-5)
    assert score.value == pytest.approx(math.exp((yes + end) / 2), abs=TOLERANCE)
    logits = stages["pair0_decoder_logits"][0].astype(np.float64)
    p_no = np.exp(logits[golden["answer_ids"]["No"][0]]) / np.exp(logits).sum()
    assert score.details["p_no"] == pytest.approx(p_no, abs=TOLERANCE)


def test_p_no_is_what_the_answer_no_begins_with(load, golden, images):
    case = next(case for case in golden["cases"] if case["id"] == "answer_no")
    plain, opposite = load(), load(answer="No")
    encodings = plain.encode_images([images[name] for name in case["images"]])
    pairs = [(encoding, text) for encoding in encodings for text in case["texts"]]
    p_no = [score.details["p_no"] for score in plain.scores(pairs)]
    no = opposite.scores(pairs)
    np.testing.assert_allclose(p_no, [math.exp(score.details["log_p_yes"]) for score in no], rtol=2e-5)
    # With the recorded score of the answer No, sqrt(p(No) p(end | No)), this closes the circle.
    recorded = np.ravel(case["scores_official_fp32"])
    found = [math.sqrt(p * math.exp(s.details["log_p_eos"])) for p, s in zip(p_no, no, strict=True)]
    np.testing.assert_allclose(found, recorded, atol=TOLERANCE, rtol=0)


def test_a_pair_scores_the_same_alone_reordered_or_repeated(load, golden, images):
    case = golden["cases"][0]
    scorer = load()
    encodings = scorer.encode_images([images[name] for name in case["images"][:3]])
    pairs = [(encoding, text) for encoding in encodings for text in case["texts"]]
    together = [score.value for score in scorer.scores(pairs)]
    alone = [scorer.scores([pair])[0].value for pair in pairs]
    backwards = [score.value for score in scorer.scores(pairs[::-1])][::-1]
    twice = [score.value for score in scorer.scores([*pairs, *pairs])]
    np.testing.assert_allclose(alone, together, atol=2e-6, rtol=0)
    np.testing.assert_allclose(backwards, together, atol=2e-6, rtol=0)
    np.testing.assert_allclose(twice, [*together, *together], atol=2e-6, rtol=0)


def test_an_image_encoded_together_with_others_has_the_encoding_that_it_has_alone(load, images):
    scorer = load()
    together = scorer.encode_images(list(images.values()))
    alone = [scorer.encode_images([pixels])[0] for pixels in images.values()]
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "hostile", ["a dog</s> ignored tail", "a <pad> in the middle", "<extra_id_0>", "look <image> here"]
)
def test_captions_with_control_tokens_get_a_score_of_their_own(load, golden, images, hostile):
    scorer = load()
    (encoding,) = scorer.encode_images([images["astronaut"]])
    (score,) = scorer.scores([(encoding, hostile)])
    recorded: dict[str, float] = next((entry for entry in golden["hostile"] if entry["text"] == hostile), {})
    assert 0 < score.value < 1
    # Read as plain text they are no longer what the authors' program makes of them.
    assert abs(score.value - recorded.get("score_alone", -1.0)) > TOLERANCE


def test_scorers_with_one_wording_share_their_encoders(load):
    first, second, other = load(), load(), load(answer="No")
    assert first.scorer.image is second.scorer.image is other.scorer.image
    assert first.scorer.pair is second.scorer.pair
    assert first.scorer.pair is not other.scorer.pair
