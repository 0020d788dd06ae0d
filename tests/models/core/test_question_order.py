"""The order of questions that depend on each other."""

import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.questions import Question, parents_first


def asked(*parents: tuple[int, ...]) -> list[Question]:
    return [Question("Is it red?", depends_on=each) for each in parents]


def test_a_question_stands_behind_all_that_it_depends_on() -> None:
    questions = asked((3,), (0,), (), (2,))
    order = parents_first(questions)
    assert sorted(order) == [0, 1, 2, 3]
    assert all(
        order.index(parent) < order.index(index) for index, each in enumerate(questions) for parent in each.depends_on
    )


@pytest.mark.parametrize(
    ("parents", "question", "sentence"),
    [
        pytest.param(((), (2,)), 1, "Question 1 depends on question 2, which is not there.", id="no such question"),
        pytest.param(((-1,),), 0, "Question 0 depends on question -1, which is not there.", id="before the first"),
        pytest.param(((), (1,)), 1, "in a circle: 1, 1.", id="itself"),
        pytest.param(((1,), (2,), (0,)), None, "in a circle: ", id="through others"),
    ],
)
def test_what_has_no_order_is_refused_with_the_question(parents, question, sentence) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        parents_first(asked(*parents))
    assert sentence in refused.value.detail
    assert question is None or refused.value.facts["question"] == question


def test_a_long_circle_is_named_in_part() -> None:
    with pytest.raises(InvalidFieldError) as refused:
        parents_first(asked(*(((index + 1) % 50,) for index in range(50))))
    assert refused.value.detail.endswith(", ….")
