"""What single values of a request must be: the same for REST and gRPC.

REST's schemas are made of these types; gRPC's reader, whose wire holds the types already, checks values against them.
"""

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticKnownError

from plumbline_models.decisions.drift import LEAST_NUMBERS
from plumbline_models.decisions.gaussian_discriminant import LEAST_SHOTS

T = TypeVar("T")

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
SidePx: TypeAlias = Annotated[int, Field(ge=1, lt=2**32), BeforeValidator(_whole)]
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
