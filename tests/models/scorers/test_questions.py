"""The scorer `questions`: its arithmetic by hand, and one network for it and `vqascore`."""

import math
from typing import Any, cast

import numpy as np
import pytest

from plumbline_models.core.errors import ConfigError, MissingQuestionsError
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.core.questions import Question
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.networks.vqa import FAMILIES
from plumbline_models.scorers.questions import Questions
from plumbline_models.scorers.vqascore import VqaScore

DOG, RED, RAIN, CAT = (
    Question("Is there a dog?", tag="entity"),
    Question("Is the dog red?", tag="colour", depends_on=(0,)),
    Question("Does it rain?", expect="no"),
    Question("Is there a cat?", tag="entity"),
)


@pytest.fixture
def context(torch_fp32) -> BuildContext:
    return BuildContext(torch_fp32, EncoderRegistry())


def likelihood(yes: float, no: float) -> AnswerLikelihood:
    """As CLIP-FlanT5 has it: the end of sequence behind `Yes` is no part of P(yes)."""
    return AnswerLikelihood((math.log(yes), math.log(0.5)), rival_log_prob=math.log(no))


def build(context: BuildContext, **options: Any) -> Questions:
    return Questions.build(options, context)


def score(scorer: Questions, asked: list[Question], answers: list[tuple[float, float]]) -> Score:
    pairs = [likelihood(*each) for each in answers]
    (found,) = scorer.score(Embedded(pairs=[pairs], questions=[asked]))
    return cast("Score", found)


def test_a_question_counts_by_the_probability_of_its_right_answer(context) -> None:
    found = score(build(context), [DOG, RED, RAIN, CAT], [(0.9, 0.1), (0.6, 0.2), (0.1, 0.7), (0.3, 0.6)])
    assert found.value == found.details["mean"] == pytest.approx((0.9 + 0.6 + 0.7 + 0.3) / 4)
    assert found.details["min"] == pytest.approx(0.3)
    assert found.details["failed"] == [3]
    assert found.details["rates"] == {"entity": 0.5, "colour": 1.0}
    assert [pytest.approx(each) for each in found.details["answers"]] == [
        {"p_yes": 0.9, "p_no": 0.1, "score": 0.9},
        {"p_yes": 0.6, "p_no": 0.2, "score": 0.6},
        {"p_yes": 0.1, "p_no": 0.7, "score": 0.7},
        {"p_yes": 0.3, "p_no": 0.6, "score": 0.3},
    ]


def test_a_failed_question_zeroes_its_children_and_theirs(context) -> None:
    grandchild = Question("Is its red dark?", depends_on=(1,))
    found = score(build(context), [DOG, RED, grandchild], [(0.4, 0.5), (0.9, 0.1), (0.8, 0.1)])
    assert [each["score"] for each in found.details["answers"]] == [pytest.approx(0.4), 0.0, 0.0]
    assert [each["p_yes"] for each in found.details["answers"][1:]] == pytest.approx([0.9, 0.8])
    assert found.details["failed"] == [0, 1, 2]
    assert found.details["min"] == 0.0


def test_a_parent_may_stand_behind_its_child(context) -> None:
    grandchild, child = Question("Is its red dark?", depends_on=(1,)), Question("Is the dog red?", depends_on=(2,))
    found = score(build(context), [grandchild, child, DOG], [(0.9, 0.1), (0.9, 0.1), (0.1, 0.8)])
    assert [each["score"] for each in found.details["answers"]] == [0.0, 0.0, pytest.approx(0.1)]


def test_a_doubtful_answer_is_no_wrong_no(context) -> None:
    """Neither `Yes` nor `No` is probable: a question fails whichever was expected."""
    found = score(build(context), [DOG, RAIN], [(0.2, 0.3), (0.2, 0.3)])
    assert found.details["failed"] == [0, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("mean", 0.5), ("min", 0.2), ("geometric_mean", 0.4)],
)
def test_the_value_is_pooled_as_configured(context, value: str, expected: float) -> None:
    scorer = build(context, value=value)
    found = score(scorer, [DOG, CAT], [(0.8, 0.1), (0.2, 0.1)])
    assert found.value == pytest.approx(expected)
    assert scorer.conventions["value"] == f"{value} of the probabilities of the right answers"


def test_a_geometric_mean_with_a_zero_is_zero(context) -> None:
    found = score(build(context, value="geometric_mean"), [DOG, RED], [(0.4, 0.5), (0.9, 0.1)])
    assert found.value == 0.0


def test_the_threshold_decides_what_fails(context) -> None:
    found = score(build(context, threshold=0.95), [DOG, RED], [(0.9, 0.1), (0.99, 0.01)])
    assert found.details["failed"] == [0, 1]


def test_items_without_questions_are_refused(context) -> None:
    with pytest.raises(MissingQuestionsError):
        build(context).score(Embedded(pairs=[[likelihood(0.5, 0.5)]]))


def test_sections_that_say_the_same_share_one_network(context) -> None:
    vqascore, questions = VqaScore.build({}, context), build(context, prompt="{} Yes or no?")
    assert questions.pair is vqascore.pair
    assert questions.image is vqascore.image
    other = BuildContext(context.backend, EncoderRegistry())
    assert build(other, question="Is this {}?").pair.key != vqascore.pair.key


def test_questions_are_put_in_their_own_words(context) -> None:
    scorer = build(context, prompt="{} Please answer yes or no.")
    checkpoint = cast("Any", scorer.pair).checkpoint
    tokens = np.zeros((checkpoint.tower_arch.num_patches, checkpoint.t5_arch.width), np.float32)
    asked = scorer.pair.preprocess(PairInput("Is it red?", tokens, scorer.template))
    plain = scorer.pair.preprocess(PairInput("Is it red?", tokens))
    behind = scorer.template.tail("Is it red?")
    assert "Is it red? Please answer yes or no." in behind
    assert asked.tail_ids.tolist() == checkpoint.pieces.encode(behind).tolist()
    assert plain.tail_ids.tolist() != asked.tail_ids.tolist()
    assert plain.answer_ids.tolist() == asked.answer_ids.tolist()


def test_a_family_ends_questions_as_it_ends_its_own() -> None:
    ends = {name: entry.prompt for name, entry in FAMILIES.items()}
    assert ends == {
        "clip-flant5": "{} Please answer yes or no.",
        "llava-1.5": "{} Please answer yes or no.",
        "qwen2.5-vl": "{} Please answer Yes or No.",
        "qwen3-vl": "{} Please answer Yes or No.",
        "smolvlm": "{} Please answer Yes or No.",
    }


def test_the_embedded_network_is_asked_the_one_question_that_it_knows(context) -> None:
    assert build(context).conventions["question"] == 'Does this figure show "{}"? Please answer yes or no.'


def test_a_prompt_without_a_place_for_the_question_is_refused(context) -> None:
    with pytest.raises(ConfigError):
        build(context, prompt="Is it red?")
