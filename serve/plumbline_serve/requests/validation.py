"""What must hold of a request before any work is done; the same sentences for every protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from plumbline_models.core.errors import (
    InvalidFieldError,
    MissingImageError,
    MissingQuestionsError,
    MissingTextError,
    NoItemsError,
    PlumblineError,
    TextTooLongError,
    TooManyItemsError,
    UnknownImageError,
    UnknownScorerError,
)
from plumbline_models.core.protocols import Need, Scorer
from plumbline_models.core.questions import Question, parents_first
from plumbline_serve.messages import BrokenImage, ImageSource, Item, Pool
from plumbline_serve.settings import Limits

_HALF = re.compile(r"[\ud800-\udfff]")  # of an emoji that was cut in two, say
_MISSING: Final[Mapping[Need, tuple[type[PlumblineError], str]]] = {
    "image": (MissingImageError, "an image"),
    "text": (MissingTextError, "a text"),
    "references": (MissingTextError, "references"),
    "reference_image": (MissingImageError, "a reference_image"),
    "phrases": (MissingTextError, "phrases"),
    "questions": (MissingQuestionsError, "questions"),
}
"""What is said of an item without a field that a scorer needs, in the order of the checks."""


def placed(error: PlumblineError, pointer: str) -> PlumblineError:
    """The error of one input as that of the whole request, which cannot do without it.

    Args:
        error: Of the input.
        pointer: JSON pointer to it.
    """
    facts = {**error.facts, "errors": [{"pointer": pointer, "detail": "cannot be used"}]}
    return type(error)(error.detail, **facts)


@dataclass(frozen=True, slots=True)
class Case:
    """An item with its images looked up, or with the reason why it cannot be scored."""

    id: str
    image: ImageSource | None
    text: str | None
    error: PlumblineError | None = None
    references: Sequence[str] = ()
    reference_image: ImageSource | None = None
    phrases: Sequence[str] = ()
    questions: Sequence[Question] = ()
    frames: Sequence[ImageSource] = ()
    pool: Pool = "mean"
    group: str | None = None

    def by_frame(self) -> "list[Case]":
        """The case, for each of its frames; itself where it has none."""
        return [replace(self, image=frame, frames=()) for frame in self.frames] or [self]

    def lacks(self, scorer: Scorer) -> PlumblineError | None:
        """What the scorer would need and the item does not have."""
        for need, (kind, words) in _MISSING.items():
            if need not in scorer.info.needs:
                continue
            given = self.frames or self.image if need == "image" else getattr(self, need)
            if given in (None, ()):
                return kind(f"{scorer.info.name} needs {words}.", scorer=scorer.info.name)
        return None


class Checks:
    """The limits and the loaded scorers, which every request is checked against.

    Args:
        limits: Of the settings.
        scorers: By name.
        allows_audits: Whether sets may be audited by groups.
    """

    def __init__(self, limits: Limits, scorers: Mapping[str, Scorer], *, allows_audits: bool = False) -> None:
        self.allows_audits = allows_audits
        self._limits = limits
        self._scorers = scorers

    def over(self, scorers: Mapping[str, Scorer]) -> "Checks":
        """The same limits over other scorers, by name."""
        return Checks(self._limits, scorers, allows_audits=self.allows_audits)

    def cases(self, items: Sequence[Item], images: Mapping[str, ImageSource]) -> list[Case]:
        """Look up every item's images and check its texts.

        Args:
            items: As the caller sent them.
            images: The request's table of images, by key.

        Raises:
            NoItemsError: There are none.
            TooManyItemsError: There are more than allowed, or more questions or frames.
        """
        num_questions, num_frames = sum(len(each.questions) for each in items), sum(len(each.frames) for each in items)
        self.count(len(items), num_questions, num_frames)
        return [self._case(index, item, images) for index, item in enumerate(items)]

    def count(self, num_items: int, num_questions: int = 0, num_frames: int = 0) -> None:
        """Check the numbers of items, of all their questions and of all their frames; raises as `cases` does.

        Args:
            num_items: At least one is asked for.
            num_questions: Of all items together.
            num_frames: Of all items together.
        """
        if num_items == 0:
            raise NoItemsError("The request has no items.")
        if num_items > self._limits.max_items:
            raise TooManyItemsError(
                f"The request has {num_items} items; at most {self._limits.max_items} are allowed.",
                num_items=num_items,
            )
        if num_questions > self._limits.max_questions:
            raise TooManyItemsError(
                f"The request has {num_questions} questions; at most {self._limits.max_questions} are allowed.",
                num_questions=num_questions,
            )
        if num_frames > self._limits.max_frames:
            raise TooManyItemsError(
                f"The request has {num_frames} frames; at most {self._limits.max_frames} are allowed.",
                num_frames=num_frames,
            )

    def text(self, text: str) -> PlumblineError | None:
        """What is wrong with one text."""
        if not text.isascii() and _HALF.search(text):
            return InvalidFieldError("The text holds half of a surrogate pair, which is no character.")
        if len(text) > self._limits.max_text_chars:
            return TextTooLongError(
                f"The text has {len(text)} characters; at most {self._limits.max_text_chars} are allowed.",
                num_chars=len(text),
            )
        return None

    def scorer(self, name: str, pointer: str) -> Scorer:
        """The loaded scorer of that name.

        Args:
            name: As the caller sent it.
            pointer: To the field that holds it.

        Raises:
            UnknownScorerError: There is none; the error points at the field.
        """
        if scorer := self._scorers.get(name):
            return scorer
        known = ", ".join(self._scorers) or "none"
        raise UnknownScorerError(
            f"There is no scorer {name[:64]!r} here; loaded: {known}.",
            errors=[{"pointer": pointer, "detail": "not loaded"}],
        )

    def is_scorer(self, name: str) -> bool:
        """Whether a scorer of that name is loaded."""
        return name in self._scorers

    def scorers(self, names: Sequence[str] | None) -> list[Scorer] | None:
        """The scorers of those names, each once; None where the caller left the choice.

        Raises:
            UnknownScorerError: One of them is not loaded.
            InvalidFieldError: The list is there but empty.
        """
        if names is None:
            return None
        if not names:
            raise InvalidFieldError(
                "The list of scorers is empty.",
                errors=[{"pointer": "/scorers", "detail": "must not be empty"}],
            )
        return list({name: self.scorer(name, f"/scorers/{i}") for i, name in enumerate(names)}.values())

    def _case(self, index: int, item: Item, images: Mapping[str, ImageSource]) -> Case:
        image, unknown = _look_up(item.image, images)
        reference_image, unknown_reference = _look_up(item.reference_image, images)
        frames = [_look_up(frame, images) for frame in item.frames]
        unknown_frame = next((error for _, error in frames if error is not None), None)
        questions = tuple(item.questions)
        texts = (
            *(() if item.text is None else (item.text,)),
            *(*item.references, *item.phrases),
            *(question.text for question in questions),
        )
        faults = (fault for text in texts if (fault := self.text(text)) is not None)
        return Case(
            id=item.id,
            image=image,
            text=item.text,
            error=unknown or unknown_frame or next(faults, None) or _dependency_fault(index, questions),
            references=tuple(item.references),
            reference_image=reference_image if unknown_reference is None else BrokenImage(unknown_reference),
            phrases=tuple(item.phrases),
            questions=questions,
            frames=tuple(frame for frame, _ in frames if frame is not None),
            pool=item.pool,
            group=item.group,
        )


def _dependency_fault(index: int, questions: Sequence[Question]) -> PlumblineError | None:
    """What is wrong with the order of an item's questions."""
    if not questions:
        return None
    try:
        parents_first(questions)
    except InvalidFieldError as error:
        pointer = f"/items/{index}/questions/{error.facts['question']}/depends_on"
        fault = {"pointer": pointer, "detail": "leads to no question, or in a circle"}
        return InvalidFieldError(error.detail, errors=[fault])
    return None


def _look_up(
    named: str | ImageSource | None, images: Mapping[str, ImageSource]
) -> tuple[ImageSource | None, PlumblineError | None]:
    """An image of an item; or that its key is none of the request's."""
    if not isinstance(named, str):
        return named, None
    if (image := images.get(named)) is not None:
        return image, None
    return None, UnknownImageError(f"The request carries no image {named[:64]!r}.")
