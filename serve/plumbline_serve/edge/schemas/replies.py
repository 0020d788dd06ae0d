"""The bodies of REST's replies, for its document; `rest.replies` writes them.

Fields and their descriptions come from `messages`; what stands here is what JSON writes in another form.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from dataclasses import Field as DataclassField
from functools import cache, reduce
from itertools import pairwise
from operator import or_
from types import GenericAlias
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from plumbline_serve import messages
from plumbline_serve.edge.schemas.requests import Combination
from plumbline_serve.messages import decisions as decision_messages
from plumbline_serve.messages import drift as drift_messages


class FieldFault(BaseModel):
    """One faulty field."""

    pointer: str = Field(description="Where, as a JSON pointer (RFC 6901) into the request.")
    detail: str = Field(description="What is wrong there.")


class ItemProblem(BaseModel):
    """Why one item, or one scorer for it, failed; its neighbours are not concerned."""

    type: str = Field(description="A stable URI, one for each code; an identifier and not a page.")
    title: str
    status: int = Field(description="The HTTP status that a whole request would have got for this.")
    detail: str = Field(description="One sentence for the caller.")
    code: str = Field(description="Stable, in snake_case; docs/problems.md lists all.")
    errors: list[FieldFault] = Field(default_factory=list, description="Faulty fields; absent where there are none.")
    retry_after_ms: int = Field(
        default_factory=int, description="When a retry is likely to be served; 429 and 503 only."
    )
    reason: str = Field(default_factory=str, description="Why there is no room; `overloaded` only: docs/serving.md.")
    estimated_wait_ms: int = Field(
        default_factory=int, description="When the answer would have been there, from the reply on; `overloaded` only."
    )


class Problem(ItemProblem):
    """Why a whole request failed."""

    request_id: str


class Failed(BaseModel):
    """Stands in the place of what could not be made."""

    error: ItemProblem


class IndexedProblem(BaseModel):
    """One image or text without a place."""

    index: int
    error: ItemProblem


class Word(BaseModel):
    """One word of the text."""

    text: str
    start: int = Field(description="Offset into the text as sent, in characters.")
    end: int
    attribution: float = Field(description="What the word adds to the match; negative where it speaks against it.")
    misaligned: bool = Field(description="Whether the image does not show the word.")


class Answer(BaseModel):
    """What the network answers to one question."""

    p_yes: float = Field(description="Probability that it answers Yes.")
    p_no: float = Field(description="Probability that it answers No.")
    score: float = Field(description="That of the right answer; 0 where the question depends on one that failed.")


class FrameValues(BaseModel):
    """What one scorer says of each frame of a video."""

    values: list[float] = Field(description="In the order of the frames.")
    mean: float = Field(description="Of the values.")
    min: float = Field(description="The least of them.")
    worst: int = Field(description="Index of the frame that the scorer likes least, from 0.")


class ScoreValue(BaseModel):
    """What one scorer says of one item; some say more, such as `resized` (qualiclip)."""

    model_config = ConfigDict(extra="allow")

    value: float = Field(description="In the scorer's range, see `GET /v1/scorers`.")
    cosine: float = Field(
        default_factory=float, description="The raw cosine of image and text; clipscore and fclipscore."
    )
    words: list[Word] = Field(default_factory=list, description="In text order; fclipscore.")
    truncated: bool = Field(
        default_factory=bool,
        description="True where the text is longer than what the scorer reads, and its end was left out; else absent.",
    )
    answers: list[Answer] = Field(
        default_factory=list, description="One for each of the item's questions; this and the next four: questions."
    )
    mean: float = Field(default_factory=float, description="The mean of the answers' scores.")
    min: float = Field(default_factory=float, description="The least of them.")
    failed: list[int] = Field(default_factory=list, description="Questions below the threshold, by index, from 0.")
    rates: dict[str, float] = Field(
        default_factory=dict, description="By tag, the share of its questions that did not fail."
    )
    frames: FrameValues = Field(
        default_factory=lambda: FrameValues(values=[], mean=0.0, min=0.0, worst=0),
        description="Where the item is a video; else absent.",
    )


def schema_of(message: type, without: str | None = None, **otherwise: Any) -> type[BaseModel]:
    """The schema of a message; a field with a default is absent from JSON where it has it.

    Args:
        message: Its class.
        without: A field that JSON does not have.
        otherwise: The types of fields that JSON has in addition, or writes in another form.
    """
    hints = {**get_type_hints(message), **otherwise}
    declared = {each.name: each for each in fields(message)}
    described: dict[str, str] = {}
    for kind in reversed([each for each in message.__mro__ if is_dataclass(each)]):
        described |= _descriptions(kind.__module__)[kind.__name__]
    definitions: dict[str, Any] = {
        name: (hints[name], _field(declared.get(name), described.get(name)))
        for name in dict.fromkeys((*declared, *otherwise))
        if name != without
    }
    return create_model(message.__name__, __doc__=message.__doc__, **definitions)


def _field(declared: "DataclassField[Any] | None", description: str | None) -> Any:
    if declared is None:
        return ...
    if declared.default is declared.default_factory is MISSING:
        return Field(description=description)
    default = declared.default
    make = (lambda: default) if declared.default_factory is MISSING else declared.default_factory
    return Field(default_factory=make, description=description)


@cache
def _descriptions(module: str) -> Mapping[str, Mapping[str, str]]:
    """The docstrings of the fields of a module's messages, by class and field."""
    parsed = ast.parse(inspect.getsource(sys.modules[module]))
    classes = [each for each in parsed.body if isinstance(each, ast.ClassDef)]
    return {each.name: dict(_field_docstrings(each)) for each in classes}


def _field_docstrings(parsed: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for declared, docstring in pairwise(parsed.body):
        match declared, docstring:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str(text))):
                yield name, text


def _list(*entries: type[BaseModel]) -> Any:
    return GenericAlias(list, (reduce(or_, entries),))


Timing = schema_of(messages.Timing)
_SCORES: Any = dict[str, ScoreValue | Failed]
REPLY: Mapping[str, Any] = {"request_id": str, "timing_ms": Timing}
"""What every reply has."""

INDEXED_PROBLEMS: Any = Annotated[list[IndexedProblem], Field(default_factory=list)]
"""What could not be used, absent where there is none."""

ItemFailure = schema_of(messages.ItemFailure, status=Literal["error"], error=ItemProblem)
GuardFlags = schema_of(messages.GuardFlags)
ItemScores = schema_of(
    messages.ItemScores,
    status=Literal["ok"],
    scores=_SCORES,
    guards=Annotated[GuardFlags, Field(default_factory=GuardFlags.model_construct)],
)
ItemVerdict = schema_of(messages.ItemVerdict, status=Literal["ok"], scores=_SCORES)
Ranked = schema_of(messages.Ranked)
ScorerEntry = schema_of(messages.ScorerEntry)
EncoderEntry = schema_of(messages.EncoderEntry)

ScoreReply = schema_of(messages.ScoreReply, results=_list(ItemScores, ItemFailure), **REPLY)
FilterReply = schema_of(messages.FilterReply, results=_list(ItemVerdict, ItemFailure), **REPLY)
RankReply = schema_of(
    messages.RankReply,
    ranking=_list(Ranked),
    errors=INDEXED_PROBLEMS,
    **REPLY,
)
SelectReply = schema_of(
    messages.SelectReply,
    errors=INDEXED_PROBLEMS,
    values=list[float | None],
    probabilities=list[float | None],
    **REPLY,
)
BoundTo = schema_of(decision_messages.BoundTo)
GroupThreshold = schema_of(decision_messages.GroupThreshold)
Calibration = schema_of(
    decision_messages.Calibration,
    bound_to=BoundTo,
    groups=GenericAlias(dict, (str, GroupThreshold)),
    combine=GenericAlias(dict, (str, Combination)),
)
CalibrationReply = create_model(
    "CalibrationReply", __base__=Calibration, __doc__="A calibration that is kept now.", request_id=(str, ...)
)
CalibrationsReply = create_model(
    "CalibrationsReply", __doc__="Every calibration that is kept, by name.", calibrations=(_list(Calibration), ...)
)
ClassifierEntry = schema_of(decision_messages.ClassifierEntry, bound_to=BoundTo)
ClassifierReply = create_model(
    "ClassifierReply", __base__=ClassifierEntry, __doc__="A classifier that is kept now.", request_id=(str, ...)
)
ClassifiersReply = create_model(
    "ClassifiersReply", __doc__="Every classifier that is kept, by name.", classifiers=(_list(ClassifierEntry), ...)
)
ReferenceEntry = schema_of(drift_messages.ReferenceEntry, bound_to=BoundTo)
ReferenceReply = create_model(
    "ReferenceReply", __base__=ReferenceEntry, __doc__="A reference that is kept now.", request_id=(str, ...)
)
ReferencesReply = create_model(
    "ReferencesReply", __doc__="Every reference that is kept, by scorer.", references=(_list(ReferenceEntry), ...)
)
StatisticShift = schema_of(drift_messages.StatisticShift)
DriftEntry = schema_of(drift_messages.DriftEntry, images=GenericAlias(dict, (str, StatisticShift)))
DriftReply = schema_of(
    drift_messages.DriftReply,
    scorers=GenericAlias(dict, (str, DriftEntry)),
    errors=Annotated[dict[str, ItemProblem], Field(default_factory=dict)],
)
EmbedReply = schema_of(
    messages.EmbedReply,
    without="encoder",
    model=Annotated[str, Field(description="What embedded, by its key in `GET /v1/models`.")],
    encoding=Literal["float", "base64"],
    vectors=list[list[float] | str | Failed],
    **REPLY,
)
ScorersReply = create_model(
    "ScorersReply",
    __doc__="Every loaded scorer, then the classifiers that are kept and fit what is loaded.",
    scorers=(_list(ScorerEntry), ...),
)
ModelsReply = create_model("ModelsReply", __doc__="Every loaded encoder.", models=(_list(EncoderEntry), ...))
