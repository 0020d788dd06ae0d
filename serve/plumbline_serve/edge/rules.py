"""What fields of a request must be beside each other, and how many there may be: the same for REST and gRPC."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from plumbline_serve.messages import Base64Image, Term, UrlImage
from plumbline_serve.requests.images import is_data_url
from plumbline_serve.requests.validation import Checks
from plumbline_serve.settings import Limits

_QUERIES = (frozenset({"text", "images"}), frozenset({"image", "texts"}))


def check_counts(limits: Limits, *collections: Any) -> None:
    """Hold the numbers of items, images and texts against the limits, before any of them is read.

    Args:
        limits: The service's.
        collections: Those of the request; what is none, for it is of a wrong type or not given, is passed over.

    Raises:
        TooManyItemsError: One holds more than allowed.
    """
    for each in collections:
        if isinstance(each, Collection) and not isinstance(each, str) and len(each) > limits.max_items:
            Checks(limits, {}).count(len(each))


def check_num_questions(limits: Limits, questions: Iterable[Any]) -> None:
    """Hold the number of questions against the limit, before any of them is read.

    Args:
        limits: The service's.
        questions: Of each item; what is none is passed over.

    Raises:
        TooManyItemsError: They are more than allowed.
    """
    Checks(limits, {}).count(1, _num_in(questions))


def check_num_frames(limits: Limits, frames: Iterable[Any]) -> None:
    """Hold the number of frames against the limit, as `check_num_questions` does that of questions.

    Args:
        limits: The service's.
        frames: Of each item; what is none is passed over.

    Raises:
        TooManyItemsError: They are more than allowed.
    """
    Checks(limits, {}).count(1, num_frames=_num_in(frames))


def _num_in(collections: Iterable[Any]) -> int:
    return sum(len(each) for each in collections if isinstance(each, Collection) and not isinstance(each, str))


def choice_fault(**choices: Any) -> str | None:
    """What is wrong with fields of which exactly one is to be given; None stands for one that is not."""
    if sum(value is not None for value in choices.values()) == 1:
        return None
    return f"must have exactly one of {', '.join(choices)}"


def bounds_fault(low: float | None, high: float | None, calibration: str | None) -> str | None:
    """What is wrong with the bounds of a condition.

    Args:
        low: Its `min`.
        high: Its `max`.
        calibration: What it has in their place.
    """
    is_bounded = low is not None or high is not None
    if is_bounded == (calibration is not None):
        return "must have min, max or both, or calibration alone"
    return None if low is None or high is None or low <= high else "must have a min that is not above its max"


def term_fault(low: float | None, high: float | None) -> str | None:
    """What is wrong with the bounds of a combination's term.

    Args:
        low: Its `min`.
        high: Its `max`.
    """
    if (low is None) != (high is None):
        return "must have both min and max, or neither"
    return None if low is None or high is None or low < high else "must have a min below its max"


def combination_fault(method: str, terms: Sequence[Term]) -> str | None:
    """What is wrong with a combination whose terms are right by themselves."""
    if len({term.scorer for term in terms}) < len(terms):
        return "must name each scorer once"
    if method == "harmonic" and any(term.min is None or term.weight <= 0 for term in terms):
        return "must have min, max and a weight above 0 in each term, for a harmonic mean"
    return None


def pictures_fault(image: object, frames: object) -> str | None:
    """What is wrong with an item that has both an image and frames; None stands for one that is not given."""
    return "must have image or frames, not both" if image is not None and frames is not None else None


def reference_fault(values: object, *, from_live: bool) -> str | None:
    """What is wrong with what a reference is to be made of.

    Args:
        values: None: none are given.
        from_live: Whether it is what is counted now.
    """
    return "must have either values or from_live" if (values is None) != from_live else None


def calibrated_fault(scorer: object, combine: Collection[str]) -> str | None:
    """What is wrong with what is calibrated.

    Args:
        scorer: None: it is not given.
        combine: Names of combinations.
    """
    if (scorer is None) != bool(combine):
        return "must have either scorer or combine"
    return "must have one combination in combine" if len(combine) > 1 else None


def classes_fault(classes: Collection[str], prompts: Collection[str]) -> str | None:
    """What is wrong with the names of a classifier's classes.

    Args:
        classes: That have images.
        prompts: That have one.
    """
    return None if {*classes} == {*prompts} else "must have the same names in classes and prompts"


def query_fault(given: Collection[str]) -> str | None:
    """What is wrong with a request to rank that gives these of its four fields."""
    return None if frozenset(given) in _QUERIES else "must have either text and images, or image and texts"


def url_image(url: str) -> UrlImage | Base64Image:
    """The image of an address, which may hold the image itself."""
    return Base64Image(url) if is_data_url(url) else UrlImage(url)
