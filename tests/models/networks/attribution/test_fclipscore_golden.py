"""Attributions and words against the official program's, on weights that anyone can rebuild."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from loadtests.goldens.clips import GoldenClip
from plumbline_models.core.engines import Backend
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.networks.attribution.encoder import AttributionEncoder
from plumbline_models.networks.attribution.pairs import CaptionAttribution
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.fclipscore import FClipScore
from tests.results import succeeded

ATTRIBUTION = 5e-5  # of each pair's largest, as the golden notes say; GELU for QuickGELU is 1.4e-2. Measured 7e-6
COSINE = 2e-6
TWO_FORMS = 1e-7  # between gradient and matrix, absolute


def encoder_of(clip: GoldenClip, backend: Backend) -> AttributionEncoder:
    encoder = AttributionEncoder(clip.spec, backend, template=clip.golden["template"], num_blocks=3)
    encoder.load()
    return encoder


def attribute(clip: GoldenClip, encoder: AttributionEncoder) -> list[CaptionAttribution]:
    pairs = [PairInput(case["caption"], clip.image_embeddings[case["image"]]) for case in readable(clip)]
    encodings = encoder.encode([encoder.preprocess(pair) for pair in pairs])
    return [encoding for encoding in encodings if isinstance(encoding, CaptionAttribution)]


def readable(clip: GoldenClip) -> list[Mapping[str, Any]]:
    """The cases but those in which a caption holds a control token, which is plain text to us."""
    control = ("<end_of_text>", "<start_of_text>")
    return [case for case in clip.cases if not any(token in case["caption"] for token in control)]


@pytest.fixture(scope="module")
def encoders(b32: GoldenClip, torch_fp32: Backend, openvino_fp32: Backend) -> Mapping[str, AttributionEncoder]:
    return {"torch": encoder_of(b32, torch_fp32), "openvino": encoder_of(b32, openvino_fp32)}


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_tokens_and_cosines_are_the_official_ones(
    b32: GoldenClip, encoders: Mapping[str, AttributionEncoder], backend: str
) -> None:
    encodings = attribute(b32, encoders[backend])
    assert len(encodings) == len(readable(b32))
    for case, encoding in zip(readable(b32), encodings, strict=True):
        golden = np.array(case["token_attr"])
        assert encoding.cosine == pytest.approx(case["cos"], abs=COSINE)
        assert np.abs(encoding.tokens - golden).max(initial=0.0) <= ATTRIBUTION * np.abs(golden).max(initial=1e-9)


def test_gelu_towers_are_attributed_as_well(b16: GoldenClip, torch_fp32: Backend) -> None:
    for case, encoding in zip(readable(b16), attribute(b16, encoder_of(b16, torch_fp32)), strict=True):
        golden = np.array(case["token_attr"])
        assert np.abs(encoding.tokens - golden).max(initial=0.0) <= ATTRIBUTION * np.abs(golden).max(initial=1e-9)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_caption_s_matrix_gives_what_its_gradients_give(
    b32: GoldenClip, encoders: Mapping[str, AttributionEncoder], backend: str
) -> None:
    encoder, images = encoders[backend], list(b32.image_embeddings.values())
    for caption in list(dict.fromkeys(case["caption"] for case in readable(b32)))[:8]:
        one_by_one = succeeded(encoder.encode([encoder.preprocess(PairInput(caption, image))])[0] for image in images)
        preprocessed = encoder.preprocess(PairInput(caption, images[0]))
        num_rounds = len(preprocessed.tail_ids) // len(images) + 1
        many = [encoder.preprocess(PairInput(caption, image)) for image in images * num_rounds]
        for single, shared in zip(one_by_one * num_rounds, succeeded(encoder.encode(many)), strict=True):
            assert shared.cosine == pytest.approx(single.cosine, abs=TWO_FORMS)
            assert np.abs(shared.tokens - single.tokens).max(initial=0.0) <= TWO_FORMS


def test_pairs_do_not_depend_on_their_neighbours_or_order(
    b32: GoldenClip, encoders: Mapping[str, AttributionEncoder]
) -> None:
    encoder = encoders["openvino"]
    pairs = [PairInput(case["caption"], b32.image_embeddings[case["image"]]) for case in readable(b32)[:12]]
    together = succeeded(encoder.encode([encoder.preprocess(pair) for pair in [*pairs, *pairs]]))
    backwards = succeeded(encoder.encode([encoder.preprocess(pair) for pair in pairs[::-1]]))[::-1]
    for first, again, other in zip(together[:12], together[12:], backwards, strict=True):
        assert np.array_equal(first.tokens, again.tokens)
        assert np.abs(first.tokens - other.tokens).max() <= TWO_FORMS


@pytest.fixture(scope="module")
def score(b32: GoldenClip, encoders: Mapping[str, AttributionEncoder], torch_fp32: Backend):
    """Score golden cases under a section of options."""
    encodings = attribute(b32, encoders["torch"])
    texts = [case["caption"] for case in readable(b32)]

    def under(**options: Any) -> Sequence[Score]:
        context = BuildContext(backend=torch_fp32, registry=EncoderRegistry())
        scorer = FClipScore.build({**b32.options, **options}, context)
        return [each for each in scorer.score(Embedded(pairs=encodings, texts=texts)) if isinstance(each, Score)]

    return under


@pytest.mark.parametrize("epsilon", ["-5e-05", "-1e-05"])
def test_compat_names_the_official_words_and_scores(b32: GoldenClip, score, epsilon: str) -> None:
    scores = score(compat=True, epsilon=float(epsilon))
    for case, got in zip(readable(b32), scores, strict=True):
        official = case.get("threshold", {}).get(epsilon)
        if official is None:
            continue
        words = got.details["words"]
        assert [word["text"] for word in words] == [word for word, _ in official["words"]]
        flagged = sum(word["attribution"] for word in words if word["misaligned"])
        assert flagged == pytest.approx(official["sum_negative"], abs=2e-8)
        assert got.value == pytest.approx(official["sum_negative"] * (1 - max(case["cos"], 0)), abs=2e-8)


def test_most_negative_takes_the_lowest_word(b32: GoldenClip, score) -> None:
    for case, got in zip(readable(b32), score(compat=True, mode="most_negative"), strict=True):
        if official := case.get("most_negative"):
            assert [w["text"] for w in got.details["words"] if w["misaligned"]] == [official["word"]]


def test_our_words_stand_where_they_say(b32: GoldenClip, score) -> None:
    for case, got in zip(readable(b32), score(), strict=True):
        assert got.value <= 0
        for word in got.details["words"]:
            assert case["caption"][word["start"] : word["end"]] == word["text"]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("... !?", [], id="punctuation only"),
        pytest.param("a <end_of_text> dog", ["a", "<end_of_text>", "dog"], id="control token is text"),
        pytest.param("赤い丸 and مربع", ["赤い丸", "and", "مربع"], id="CJK and right-to-left"),
        pytest.param("red 🔴 circle", ["red", "🔴", "circle"], id="emoji"),
    ],
)
def test_captions_of_any_kind_are_answered(b32: GoldenClip, encoders, torch_fp32: Backend, caption, words) -> None:
    encoder = encoders["openvino"]
    image = next(iter(b32.image_embeddings.values()))
    encodings = encoder.encode([encoder.preprocess(PairInput(caption, image))])
    scorer = FClipScore.build(b32.options, BuildContext(backend=torch_fp32, registry=EncoderRegistry()))
    (got,) = scorer.score(Embedded(pairs=encodings, texts=[caption]))
    assert isinstance(got, Score)
    assert [word["text"] for word in got.details["words"]] == words
    assert "truncated" not in got.details
    if not words:
        assert got.value == 0


def test_a_caption_that_is_cut_says_so(b32: GoldenClip, encoders, torch_fp32: Backend) -> None:
    encoder = encoders["openvino"]
    caption = " ".join(["word"] * 200)
    encodings = encoder.encode([encoder.preprocess(PairInput(caption, next(iter(b32.image_embeddings.values()))))])
    scorer = FClipScore.build(b32.options, BuildContext(backend=torch_fp32, registry=EncoderRegistry()))
    (got,) = scorer.score(Embedded(pairs=encodings, texts=[caption]))
    assert isinstance(got, Score)
    assert got.details["truncated"] is True
    assert len(got.details["words"]) == 72
