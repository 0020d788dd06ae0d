"""The section of the configuration, and what the encoders refuse."""

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.errors import (
    ConfigError,
    EngineError,
    InvalidFieldError,
    MissingTextError,
    SetupError,
    TextTooLongError,
)
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.scorers.vqascore import VqaScore

TOKENS = np.zeros((16, 32), dtype=np.float32)


@pytest.fixture
def build(tiny, tmp_path):
    def make(**options):
        backend = open_backend("torch", precision="fp32", tuning=Tuning(cache_dir=tmp_path, num_threads=1))
        return VqaScore.build(
            {"model": str(tiny), **options}, BuildContext(backend=backend, registry=EncoderRegistry())
        )

    return make


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"question": "Is it?"}, "needs a {}", id="no place for the text"),
        pytest.param({"conversation": "loud"}, "no conversation 'loud'", id="unknown conversation"),
        pytest.param({"image_aspect_ratio": "stretch"}, "image_aspect_ratio", id="unknown aspect"),
        pytest.param({"family": "clip"}, "family", id="unknown family"),
        pytest.param({"modell": "x"}, "modell", id="misspelt key"),
        pytest.param({"question": 5}, "question", id="not a text"),
    ],
)
def test_a_section_that_does_not_fit_is_refused(options, reason, build):
    with pytest.raises(ConfigError, match=reason):
        build(**options)


def test_the_wording_and_the_aspect_are_part_of_the_keys(build):
    plain, worded, cropped = build(), build(question="{}?"), build(image_aspect_ratio="square")
    assert plain.pair.key != worded.pair.key
    assert plain.image.key == worded.image.key != cropped.image.key
    assert plain.pair.key != cropped.pair.key  # the same image and caption have another encoding


def test_a_checkpoint_that_says_how_it_was_trained_has_its_conversation(copied, edit_config, build):
    edit_config(plumbline={"conversation": "t5_plain"})
    assert build(model=str(copied)).conventions["conversation"] == "t5_plain"
    assert build(model=str(copied), conversation="t5_chat").conventions["conversation"] == "t5_chat"
    assert build().conventions["conversation"] == "t5_chat"


def test_pairs_of_like_length_share_a_bucket(build):
    pair = build().pair
    short, like, long = (pair.preprocess(PairInput(text, TOKENS)) for text in ("a dog", "a cat", "a dog " * 40))
    assert pair.bucket(short) == pair.bucket(like) != pair.bucket(long)
    assert 1.0 <= pair.cost(short) < pair.cost(long)


def test_a_text_with_too_many_tokens_is_refused(build):
    with pytest.raises(TextTooLongError):
        build().pair.preprocess(PairInput("dog " * 2000, TOKENS))


def test_encoders_refuse_what_is_not_theirs(build):
    scorer = build()
    with pytest.raises(InvalidFieldError):
        scorer.image.preprocess("a dog")
    with pytest.raises(InvalidFieldError):
        scorer.pair.preprocess("a dog")


def test_nothing_is_encoded_or_told_before_loading(build):
    scorer = build()
    with pytest.raises(EngineError):
        scorer.pair.encode([scorer.pair.preprocess(PairInput("a dog", TOKENS))])
    with pytest.raises(SetupError):
        scorer.pair.info()


def test_loading_tells_what_was_loaded(build, golden):
    scorer = build()
    scorer.pair.load()
    info = scorer.pair.info()
    assert (info.source, info.precision, info.dim) == ("clip_flant5_tiny", "fp32", 32)
    assert info.notes["question"].startswith("Does this figure show")
    assert str(golden["scored_vocab"]) in info.notes["scored"]


def test_an_encoding_that_is_no_number_does_not_harm_its_neighbours(build):
    scorer = build()
    scorer.pair.load()
    broken = np.full_like(TOKENS, np.nan)
    preprocessed = [scorer.pair.preprocess(PairInput("a dog", tokens)) for tokens in (TOKENS, broken, TOKENS)]
    first, second, third = scorer.pair.encode(preprocessed)
    assert isinstance(second, EngineError)
    assert first == third
    assert isinstance(first, AnswerLikelihood)


def test_items_without_pairs_miss_a_text(build):
    with pytest.raises(MissingTextError):
        build().score(Embedded())


def test_the_score_is_the_geometric_mean_of_all_answer_tokens(build):
    half, eighth = float(np.log(0.5)), float(np.log(0.125))
    (score,) = build().score(Embedded(pairs=[AnswerLikelihood((half, eighth), rival_log_prob=half)]))
    assert score.value == pytest.approx(0.25)
    assert score.details == pytest.approx({"p_no": 0.5, "log_p_yes": half, "log_p_eos": eighth})
