"""What the values of a request must be, and what its caller is told where they are not: the same for REST and gRPC.

REST's schemas are made of these types; gRPC's reader, whose wire holds the types already, checks values against them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticKnownError

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.drift import LEAST_NUMBERS
from plumbline_models.decisions.gaussian_discriminant import LEAST_SHOTS
from plumbline_serve.messages import Base64Image, Term, UrlImage
from plumbline_serve.messages.sets import AnyRequest
from plumbline_serve.requests.images import is_data_url
from plumbline_serve.requests.validation import Checks
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.settings import Limits

T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)
M = TypeVar("M", bound=AnyRequest)
Location: TypeAlias = tuple[int | str, ...]
"""The names and indices that lead to a field."""

MAX_SCORERS = 64  # that a request may name; far more than there are
MAX_COMBINATIONS = 16  # of a request
MAX_NUMBER = 1e9  # of weights and bounds of a combination: sums and differences of such are finite
MAX_NAME_CHARS = 64  # of a combination
ARTEFACT_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_ITEM_TEXTS = 64  # references or phrases that an item may have
MAX_TAG_CHARS = 128
MAX_FRAMES = 64  # of a video
MAX_PARENTS = 32  # questions that a question may depend on
MAX_LABELS = 100_000  # of a calibration, and scores of a reference
CLASSIFIER_NAME = r"^[a-z0-9][a-z0-9._-]{0,47}$"  # what is kept of `classifier:NAME` has a name of 64 at most
MAX_CLASSES = 64  # of a classifier
MAX_WORDS = 2**16  # that a condition may ask of a text; far more than any text within the limits has


def _whole(value: Any) -> Any:
    """An integer as JSON Schema has it: 3.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _few_combinations(value: Any) -> Any:
    """Refuse too many before they are read, which would hold up everybody else."""
    if isinstance(value, dict) and len(value) > MAX_COMBINATIONS:
        kind: dict[str, Any] = {"field_type": "Dictionary", "max_length": MAX_COMBINATIONS, "actual_length": len(value)}
        raise PydanticKnownError("too_long", kind)
    return value


Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Share: TypeAlias = Annotated[Finite, Field(ge=1e-6, le=1 - 1e-6)]
Timeout: TypeAlias = Annotated[Finite, Field(gt=0)]
AtLeastOne: TypeAlias = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Channels: TypeAlias = Annotated[Literal[3, 4], BeforeValidator(_whole)]
NumWords: TypeAlias = Annotated[int, Field(ge=1, le=MAX_WORDS), BeforeValidator(_whole)]
ItemTexts: TypeAlias = Annotated[list[str], Field(max_length=MAX_ITEM_TEXTS)]
ArtefactName: TypeAlias = Annotated[str, Field(pattern=ARTEFACT_NAME)]
ClassifierName: TypeAlias = Annotated[str, Field(pattern=CLASSIFIER_NAME)]
ClassName: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
PerClass: TypeAlias = Annotated[dict[ClassName, T], Field(min_length=2, max_length=MAX_CLASSES)]
Shots: TypeAlias = Annotated[list[T], Field(min_length=LEAST_SHOTS)]
Window: TypeAlias = Annotated[list[T], Field(min_length=LEAST_NUMBERS, max_length=MAX_LABELS)]
PerLabel: TypeAlias = Annotated[list[T], Field(min_length=1, max_length=MAX_LABELS)]
Correlation: TypeAlias = Annotated[Finite, Field(ge=-1, le=1)]
CorrelationInterval: TypeAlias = Annotated[list[Correlation], Field(min_length=2, max_length=2)]
Temperature: TypeAlias = Annotated[Finite, Field(gt=0, le=MAX_NUMBER)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**53), BeforeValidator(_whole)]
TagText: TypeAlias = Annotated[str, Field(max_length=MAX_TAG_CHARS)]
QuestionIndex: TypeAlias = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
QuestionIndices: TypeAlias = Annotated[list[QuestionIndex], Field(max_length=MAX_PARENTS)]
ScorerNames: TypeAlias = Annotated[list[str], Field(min_length=1, max_length=MAX_SCORERS)]
Conditions: TypeAlias = Annotated[list[T], Field(min_length=1, max_length=MAX_SCORERS)]
Moderate: TypeAlias = Annotated[Finite, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Frames: TypeAlias = Annotated[list[T], Field(min_length=1, max_length=MAX_FRAMES)]
Method: TypeAlias = Literal["sum", "harmonic"]
CombinationName: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
Combinations: TypeAlias = Annotated[
    dict[CombinationName, T], Field(max_length=MAX_COMBINATIONS), BeforeValidator(_few_combinations)
]

_MAX_LISTED = 16  # faults in a reply: the first ones say enough, and gRPC has 8 KiB for all of an error
_MAX_COUNTED = 1000
_MAX_POINTER_BYTES = 120
_IMAGE_KIND = 3  # where, below /items/N/image, pydantic names which of an image's two forms it tried
_ITEM_IMAGES = frozenset({"image", "reference_image"})
_FRAME_KIND = 4  # the same below /items/N/frames/M
_SET_FIELDS = frozenset({"embeddings", "orders", "a", "b"})
_SET_KINDS = frozenset({"base64", "numbers", "word", "number"})  # where, below these, pydantic names a form it tried
_QUERIES = (frozenset({"text", "images"}), frozenset({"image", "texts"}))
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be below {lt:g}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}
"""By pydantic's kind of error; ours carry their own sentence."""
_ALSO_CALLED = {"prompt": "text", "caption": "text", "prompts": "texts", "captions": "texts", "base64": "b64"}
"""What other services call our fields."""


class Faults:
    """What is wrong with a request, collected field by field and refused as one."""

    def __init__(self) -> None:
        self.num = 0
        self._listed: list[dict[str, str]] = []

    def add(self, location: Location, reason: str | None) -> None:
        """Note what is wrong with a field.

        Args:
            location: Where it is.
            reason: What is wrong with it; None: nothing.
        """
        if reason is None:
            return
        self.num += 1
        if len(self._listed) < _MAX_LISTED:
            self._listed.append({"pointer": pointer(location), "detail": reason})

    def add_invalid(self, error: ValidationError, location: Location = ()) -> None:
        """Note what pydantic found wrong.

        Args:
            error: What it raised.
            location: Where the value is that it was given.
        """
        found: Sequence[ErrorDetails] = ()
        if error.error_count() <= _MAX_COUNTED:  # listing more would hold up everybody else
            found = error.errors(include_url=False, include_input=False)
        for each in found:
            self.add((*location, *_without_kind(each["loc"])), _reason(each))
        self.num += error.error_count() - len(found)

    def check(self, kind: TypeAdapter[Any], value: T, location: Location) -> T:
        """Hold a value against its type.

        Args:
            kind: What the value must be.
            value: None stands for one that is not given.
            location: Where it is.

        Returns:
            The value as it is.
        """
        if value is not None:
            try:
                kind.validate_python(value, strict=True)
            except ValidationError as error:
                self.add_invalid(error, location)
        return value

    def refuse(self) -> None:
        """Refuse the request if anything is wrong with it.

        Raises:
            InvalidFieldError: Something is.
        """
        if self.num:
            raise self.error()

    def error(self) -> InvalidFieldError:
        """The refusal, which lists the first faults; none where there are thousands."""
        listed = [] if self.num > _MAX_COUNTED else self._listed
        first = listed[0] if listed else {"pointer": "", "detail": f"is wrong in {self.num} places"}
        where = first["pointer"] or "it"
        return InvalidFieldError(f"The request is not as the schema says: {where} {first['detail']}.", errors=listed)


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
    num_questions = sum(len(each) for each in questions if isinstance(each, Collection) and not isinstance(each, str))
    Checks(limits, {}).count(1, num_questions)


def check_num_frames(limits: Limits, frames: Iterable[Any]) -> None:
    """Hold the number of frames against the limit, as `check_num_questions` does that of questions.

    Args:
        limits: The service's.
        frames: Of each item; what is none is passed over.

    Raises:
        TooManyItemsError: They are more than allowed.
    """
    num_frames = sum(len(each) for each in frames if isinstance(each, Collection) and not isinstance(each, str))
    Checks(limits, {}).count(1, num_frames=num_frames)


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
    return "must have min, max or both, or calibration alone" if is_bounded == (calibration is not None) else None


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


@dataclass(frozen=True, slots=True)
class CallerTimeout:
    """How long the wire says that the caller waits, and since when, on the monotonic clock."""

    started_s: float
    timeout_ms: float | None = None

    def remaining_ms(self, timeout_ms: float | None) -> float | None:
        """What is left of the smaller of two timeouts, the wire's and the request's; None: there is no limit.

        Raises:
            DeadlineExceededError: Nothing is left.
        """
        timeouts = [each for each in (self.timeout_ms, timeout_ms) if each is not None]
        if not timeouts:
            return None
        deadline = Deadline(self.started_s + min(timeouts) / 1000)
        if deadline.has_passed:
            raise deadline.error("receive")
        return (deadline.remaining_s or 0.0) * 1000


def with_remaining_time(request: M, timeout: CallerTimeout) -> M:
    """The request with what is left of its time, now that it is read.

    Args:
        request: With the timeout that it names itself.
        timeout: What the wire says.

    Raises:
        DeadlineExceededError: It took longer to arrive than the caller waits.
    """
    return replace(request, timeout_ms=timeout.remaining_ms(request.timeout_ms))


def read_as(document: Any, schema: type[S]) -> S:
    """A document as a schema has it.

    Args:
        document: What the JSON holds.
        schema: Of what the route takes.

    Raises:
        InvalidFieldError: It does not fit.
    """
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        faults = Faults()
        faults.add_invalid(error)
        raise faults.error() from error


def pointer(location: Location) -> str:
    """The JSON pointer (RFC 6901) of a location, cut where a name in it is very long."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    return "".join(f"/{step}" for step in steps).encode()[:_MAX_POINTER_BYTES].decode(errors="ignore")


def _without_kind(location: Location) -> Location:
    if location and location[0] in _SET_FIELDS:
        return tuple(step for step in location if step not in _SET_KINDS)
    if len(location) > _FRAME_KIND and location[0] == "items" and location[2] == "frames":
        return (*location[:_FRAME_KIND], *location[_FRAME_KIND + 1 :])
    is_image_of_item = len(location) > _IMAGE_KIND and location[0] == "items" and location[2] in _ITEM_IMAGES
    return (*location[:_IMAGE_KIND], *location[_IMAGE_KIND + 1 :]) if is_image_of_item else location


def _reason(fault: ErrorDetails) -> str:
    reason, context = _REASONS.get(fault["type"]), fault.get("ctx", {})
    if fault["type"] == "extra_forbidden" and (meant := _ALSO_CALLED.get(str(fault["loc"][-1]))):
        return f"{reason} (did you mean {meant}?)"
    if context.get("min_length") == 1:
        return "must not be empty"
    return fault["msg"] if reason is None else reason.format_map(context)
