"""Questions about an image: what is asked, which answer is right, and which question makes sense only after which.

Cho et al., "Davidsonian Scene Graph", ICLR 2024, arXiv:2310.18235, section 3: "is the bicycle red?" has an answer only
where there is a bicycle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

from plumbline_models.core.errors import InvalidFieldError

ExpectedAnswer: TypeAlias = Literal["yes", "no"]

_MAX_SHOWN = 8  # questions of a cycle that a sentence names


@dataclass(frozen=True, slots=True)
class Question:
    """A yes-or-no question."""

    text: str
    expect: ExpectedAnswer = "yes"
    """The right answer."""
    tag: str | None = None
    """What kind of question it is; questions of one tag get one rate."""
    depends_on: Sequence[int] = ()
    """Questions of the same item by index, from 0: where one of them fails, this one counts as 0."""


def parents_first(questions: Sequence[Question]) -> list[int]:
    """The indices of questions, each behind all that it depends on.

    Raises:
        InvalidFieldError: One depends on a question that is not there, or on itself through others; fact `question`
            is its index.
    """
    for index, question in enumerate(questions):
        for parent in question.depends_on:
            if not 0 <= parent < len(questions):
                raise InvalidFieldError(
                    f"Question {index} depends on question {parent}, which is not there.", question=index
                )
    sorter = TopologicalSorter({index: question.depends_on for index, question in enumerate(questions)})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        cycle: list[int] = error.args[1]
        shown = ", ".join(map(str, cycle[:_MAX_SHOWN])) + (", …" if len(cycle) > _MAX_SHOWN else "")
        raise InvalidFieldError(f"Questions depend on each other in a circle: {shown}.", question=cycle[0]) from error
