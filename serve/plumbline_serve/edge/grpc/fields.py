"""Fields of gRPC's messages read as those of the service's; what is wrong with one is noted, not raised."""

from typing import Any, TypeAlias

from pydantic import TypeAdapter

from plumbline_models.core.questions import ExpectedAnswer, Question
from plumbline_serve.edge.faults import Faults, Location
from plumbline_serve.edge.rules import (
    bounds_fault,
    choice_fault,
    combination_fault,
    pictures_fault,
    term_fault,
    url_image,
)
from plumbline_serve.edge.values import (
    MAX_COMBINATIONS,
    ArtefactName,
    AtLeastOne,
    Channels,
    CombinationName,
    Combinations,
    Conditions,
    Finite,
    Frames,
    ItemTexts,
    Method,
    Moderate,
    NumWords,
    QuestionIndices,
    TagText,
    Timeout,
)
from plumbline_serve.messages import Combination, EncodedImage, ImageSource, Item, Pool, RawImage, Term, Threshold
from plumbline_serve.scheduling.request_context import PRIORITIES, Priority
from plumbline_wire.v1 import scoring_pb2 as pb

SetMessage: TypeAlias = pb.DiversityRequest | pb.DistanceRequest | pb.AuditRequest | pb.ReferenceSetRequest
RequestMessage: TypeAlias = (
    pb.ScoreRequest | pb.FilterRequest | pb.RankRequest | pb.SelectRequest | pb.EmbedRequest | SetMessage
)
_Message: TypeAlias = RequestMessage | pb.Item | pb.Question | pb.Threshold | pb.Term | pb.EncodingSet

_PRIORITIES: dict[int, Any] = {pb.Priority.Value(f"PRIORITY_{name.upper()}"): name for name in PRIORITIES}
_PRIORITIES[pb.PRIORITY_UNSPECIFIED] = "normal"
_METHODS: dict[int, Any] = {pb.METHOD_SUM: "sum", pb.METHOD_HARMONIC: "harmonic"}
_METHOD: TypeAdapter[Any] = TypeAdapter(Method)
_COMBINATIONS: TypeAdapter[Any] = TypeAdapter(Combinations[Any])
_NAME: TypeAdapter[Any] = TypeAdapter(CombinationName)
_MODERATE: TypeAdapter[Any] = TypeAdapter(Moderate)
_PRIORITY: TypeAdapter[Any] = TypeAdapter(Priority)
_ANSWERS: dict[int, Any] = {pb.EXPECT_UNSPECIFIED: "yes", pb.EXPECT_YES: "yes", pb.EXPECT_NO: "no"}
_POOLS: dict[int, Any] = {
    pb.POOL_UNSPECIFIED: "mean", pb.POOL_MEAN: "mean", pb.POOL_MIN: "min", pb.POOL_CLIP4CLIP: "clip4clip"
}  # fmt: skip
_POOL: TypeAdapter[Any] = TypeAdapter(Pool)
_FRAMES: TypeAdapter[Any] = TypeAdapter(Frames[Any])
_EXPECTED: TypeAdapter[Any] = TypeAdapter(ExpectedAnswer)
_TIMEOUT: TypeAdapter[Any] = TypeAdapter(Timeout)
_BOUND: TypeAdapter[Any] = TypeAdapter(Finite)
_NUM_WORDS: TypeAdapter[Any] = TypeAdapter(NumWords)
AT_LEAST_ONE: TypeAdapter[Any] = TypeAdapter(AtLeastOne)
_CHANNELS: TypeAdapter[Any] = TypeAdapter(Channels)
_ITEM_TEXTS: TypeAdapter[Any] = TypeAdapter(ItemTexts)
_TAG: TypeAdapter[Any] = TypeAdapter(TagText)
_ARTEFACT: TypeAdapter[Any] = TypeAdapter(ArtefactName)
_QUESTION_INDICES: TypeAdapter[Any] = TypeAdapter(QuestionIndices)
_CONDITIONS: TypeAdapter[Any] = TypeAdapter(Conditions[Any])


def timeout_ms(request: _Message, faults: Faults) -> float | None:
    """How long the caller waits.

    Args:
        request: What came over the wire.
        faults: Take what is wrong.
    """
    timeout_ms: float | None = faults.check(_TIMEOUT, given(request, "timeout_ms"), ("timeout_ms",))
    return timeout_ms


def priority(request: RequestMessage, faults: Faults) -> Priority:
    """How urgent the request is.

    Args:
        request: What came over the wire.
        faults: Take what is wrong.
    """
    priority: Priority = faults.check(
        _PRIORITY, _PRIORITIES.get(request.priority, str(request.priority)), ("priority",)
    )
    return priority


def images(request: pb.ScoreRequest | pb.FilterRequest, faults: Faults) -> dict[str, ImageSource]:
    """Images by key.

    Args:
        request: What came over the wire.
        faults: Take what is wrong.
    """
    return {key: source(each, faults, ("images", key)) for key, each in request.images.items()}


def items(request: pb.ScoreRequest | pb.FilterRequest, faults: Faults) -> list[Item]:
    """The items.

    Args:
        request: What came over the wire.
        faults: Take what is wrong.
    """
    return [_item(item, index, faults) for index, item in enumerate(request.items)]


def _item(item: pb.Item, index: int, faults: Faults) -> Item:
    location, num_before = ("items", index), faults.num
    image = given(item, "image_key")
    if item.HasField("image"):
        image = source(item.image, faults, (*location, "image"))
    references = faults.check(_ITEM_TEXTS, list(item.references), (*location, "references"))
    reference_image = given(item, "reference_image_key")
    if item.HasField("reference_image"):
        reference_image = source(item.reference_image, faults, (*location, "reference_image"))
    read = Item(
        id=item.id if item.HasField("id") else str(index),
        image=image,
        text=given(item, "text"),
        references=tuple(references),
        reference_image=reference_image,
        phrases=tuple(faults.check(_ITEM_TEXTS, list(item.phrases), (*location, "phrases"))),
        questions=tuple(
            _question(each, faults, (*location, "questions", place)) for place, each in enumerate(item.questions)
        ),
        frames=_frames(item, faults, location),
        pool=faults.check(_POOL, _POOLS.get(item.pool, str(item.pool)), (*location, "pool")),
        group=faults.check(_TAG, given(item, "group"), (*location, "group")),
    )
    if faults.num == num_before:  # as a schema looks at a whole once its fields are right
        faults.add(location, pictures_fault(item.WhichOneof("image_ref"), list(item.frames) or None))
    return read


def _frames(item: pb.Item, faults: Faults, location: Location) -> tuple[str | ImageSource, ...]:
    num_before, frames = faults.num, list(item.frames) or None
    faults.check(_FRAMES, frames, (*location, "frames"))
    if faults.num > num_before or frames is None:
        return ()
    return tuple(
        each.key if each.WhichOneof("frame_ref") == "key" else source(each.image, faults, (*location, "frames", place))
        for place, each in enumerate(frames)
    )


def _question(question: pb.Question, faults: Faults, location: Location) -> Question:
    parents = list(question.depends_on)
    return Question(
        text=question.text,
        expect=faults.check(_EXPECTED, _ANSWERS.get(question.expect, str(question.expect)), (*location, "expect")),
        tag=faults.check(_TAG, given(question, "tag"), (*location, "tag")),
        depends_on=tuple(faults.check(_QUESTION_INDICES, parents, (*location, "depends_on"))),
    )


def source(source: pb.ImageSource, faults: Faults, location: Location) -> ImageSource:
    """One image.

    Args:
        source: What came over the wire.
        faults: Take what is wrong.
        location: Where it stands.
    """
    match source.WhichOneof("source"):
        case "data":
            return EncodedImage(source.data)
        case "url":
            return url_image(source.url)
        case "raw":
            return _raw_image(source.raw, faults, (*location, "raw"))
        case _:
            faults.add(location, choice_fault(b64=None, url=None, part=None))
            return EncodedImage(b"")  # never read: the request is refused


def _raw_image(raw: pb.RawImage, faults: Faults, location: Location) -> RawImage:
    height = faults.check(AT_LEAST_ONE, raw.height, (*location, "height"))
    width = faults.check(AT_LEAST_ONE, raw.width, (*location, "width"))
    if not raw.HasField("channels"):
        return RawImage(raw.data, height, width)
    channels: Any = faults.check(_CHANNELS, raw.channels, (*location, "channels"))
    return RawImage(raw.data, height, width, channels)


def policy(policy: pb.Policy, faults: Faults) -> list[Threshold]:
    """A filter's conditions.

    Args:
        policy: What came over the wire.
        faults: Take what is wrong.
    """
    num_before = faults.num
    faults.check(_CONDITIONS, list(policy.all), ("policy", "all"))
    if faults.num > num_before:
        return []
    return [_threshold(each, faults, ("policy", "all", index)) for index, each in enumerate(policy.all)]


def _threshold(threshold: pb.Threshold, faults: Faults, location: Location) -> Threshold:
    num_before = faults.num
    condition = Threshold(
        scorer=threshold.scorer,
        min=faults.check(_BOUND, given(threshold, "min"), (*location, "min")),
        max=faults.check(_BOUND, given(threshold, "max"), (*location, "max")),
        min_words=faults.check(_NUM_WORDS, given(threshold, "min_words"), (*location, "min_words")),
        calibration=faults.check(_ARTEFACT, given(threshold, "calibration"), (*location, "calibration")),
    )
    if faults.num == num_before:
        faults.add(location, bounds_fault(condition.min, condition.max, condition.calibration))
    return condition


def combine(
    request: pb.ScoreRequest | pb.FilterRequest | pb.RankRequest | pb.SelectRequest, faults: Faults
) -> dict[str, Combination]:
    """Combinations by name.

    Args:
        request: What came over the wire.
        faults: Take what is wrong.
    """
    if len(request.combine) > MAX_COMBINATIONS:
        faults.check(_COMBINATIONS, dict.fromkeys(request.combine), ("combine",))
        return {}
    found: dict[str, Combination] = {}
    for name, each in request.combine.items():
        faults.check(_NAME, name, ("combine", name, "[key]"))
        found[name] = _combination(each, faults, ("combine", name))
    return found


def _combination(combination: pb.Combination, faults: Faults, location: Location) -> Combination:
    num_before = faults.num
    method = _METHODS.get(combination.method, str(combination.method))
    faults.check(_METHOD, method, (*location, "method"))
    num_at_terms = faults.num
    faults.check(_CONDITIONS, list(combination.terms), (*location, "terms"))
    sound = combination.terms if faults.num == num_at_terms else ()
    terms = [_term(each, faults, (*location, "terms", index)) for index, each in enumerate(sound)]
    if faults.num == num_before:
        faults.add(location, combination_fault(method, terms))
    return Combination(method, terms)


def _term(term: pb.Term, faults: Faults, location: Location) -> Term:
    num_before = faults.num
    weight = faults.check(_MODERATE, given(term, "weight"), (*location, "weight"))
    found = Term(
        scorer=term.scorer,
        weight=1.0 if weight is None else weight,
        min=faults.check(_MODERATE, given(term, "min"), (*location, "min")),
        max=faults.check(_MODERATE, given(term, "max"), (*location, "max")),
    )
    if faults.num == num_before:
        faults.add(location, term_fault(found.min, found.max))
    return found


def given(request: _Message, name: Any) -> Any:
    """A field that may be unset, None if it is; Any, for each message has names of its own.

    Args:
        request: What came over the wire.
        name: Of the field.
    """
    return getattr(request, name) if request.HasField(name) else None
