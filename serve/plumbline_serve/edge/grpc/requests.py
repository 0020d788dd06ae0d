"""gRPC's messages read as the service's, with the same checks as REST's bodies and refused in the same words."""

from typing import Any, TypeAlias

from pydantic import TypeAdapter

from plumbline_models.core.questions import ExpectedAnswer, Question
from plumbline_serve import messages
from plumbline_serve.edge.parsing import (
    MAX_COMBINATIONS,
    AtLeastOne,
    Channels,
    CombinationName,
    Combinations,
    Conditions,
    Faults,
    Finite,
    Frames,
    ItemTexts,
    Location,
    Method,
    Moderate,
    NumWords,
    QuestionIndices,
    ScorerNames,
    TagText,
    Timeout,
    bounds_fault,
    check_counts,
    check_num_frames,
    check_num_questions,
    choice_fault,
    combination_fault,
    pictures_fault,
    query_fault,
    term_fault,
    url_image,
)
from plumbline_serve.messages import Combination, EncodedImage, ImageSource, Item, Pool, RawImage, Term, Threshold
from plumbline_serve.request_context import PRIORITIES, Priority
from plumbline_serve.settings import Limits
from plumbline_wire.v1 import scoring_pb2 as pb

_Request: TypeAlias = pb.ScoreRequest | pb.FilterRequest | pb.RankRequest | pb.EmbedRequest
_Message: TypeAlias = _Request | pb.Item | pb.Question | pb.Threshold | pb.Term

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
_AT_LEAST_ONE: TypeAdapter[Any] = TypeAdapter(AtLeastOne)
_CHANNELS: TypeAdapter[Any] = TypeAdapter(Channels)
_SCORERS: TypeAdapter[Any] = TypeAdapter(ScorerNames)
_ITEM_TEXTS: TypeAdapter[Any] = TypeAdapter(ItemTexts)
_TAG: TypeAdapter[Any] = TypeAdapter(TagText)
_QUESTION_INDICES: TypeAdapter[Any] = TypeAdapter(QuestionIndices)
_CONDITIONS: TypeAdapter[Any] = TypeAdapter(Conditions[Any])


def score_request(request: pb.ScoreRequest, limits: Limits) -> messages.ScoreRequest:
    """What a call of `Score` asks for.

    Args:
        request: What came over the wire.
        limits: The service's.

    Raises:
        TooManyItemsError: It holds more items, questions or images than allowed.
        InvalidFieldError: A value is not as the schema says.
    """
    _check_items(request, limits)
    faults = Faults()
    message = messages.ScoreRequest(
        timeout_ms=_timeout_ms(request, faults),
        priority=_priority(request, faults),
        images=_images(request, faults),
        items=_items(request, faults),
        scorers=faults.check(_SCORERS, list(request.scorers) or None, ("scorers",)),
        combine=_combine(request, faults),
    )
    faults.refuse()
    return message


def filter_request(request: pb.FilterRequest, limits: Limits) -> messages.FilterRequest:
    """What a call of `Filter` asks for; see `score_request`."""
    _check_items(request, limits)
    faults = Faults()
    message = messages.FilterRequest(
        timeout_ms=_timeout_ms(request, faults),
        priority=_priority(request, faults),
        images=_images(request, faults),
        items=_items(request, faults),
        policy=_policy(request.policy, faults),
        combine=_combine(request, faults),
        explain=request.explain,
    )
    faults.refuse()
    return message


def rank_request(request: pb.RankRequest, limits: Limits) -> messages.RankRequest:
    """What a call of `Rank` asks for; see `score_request`."""
    check_counts(limits, request.images, request.texts)
    faults = Faults()
    timeout_ms, priority = _timeout_ms(request, faults), _priority(request, faults)
    text = _given(request, "text")
    images = [_source(each, faults, ("images", index)) for index, each in enumerate(request.images)]
    image = [_source(request.image, faults, ("image",))] if request.HasField("image") else []
    combine = _combine(request, faults)
    top_k = faults.check(_AT_LEAST_ONE, _given(request, "top_k"), ("top_k",))
    if not faults.num:
        faults.add((), query_fault(_query(request)))
    faults.refuse()
    return messages.RankRequest(
        images=image or images,
        texts=list(request.texts) if text is None else [text],
        scorer=_given(request, "scorer"),
        combine=combine,
        top_k=top_k,
        timeout_ms=timeout_ms,
        priority=priority,
    )


def embed_request(request: pb.EmbedRequest, limits: Limits) -> messages.EmbedRequest:
    """What a call of `Embed` asks for; see `score_request`."""
    check_counts(limits, request.images, request.texts)
    faults = Faults()
    message = messages.EmbedRequest(
        timeout_ms=_timeout_ms(request, faults),
        priority=_priority(request, faults),
        images=[_source(each, faults, ("images", index)) for index, each in enumerate(request.images)],
        texts=list(request.texts),
        scorer=_given(request, "scorer"),
    )
    if not faults.num:
        faults.add((), choice_fault(images=message.images or None, texts=message.texts or None))
    faults.refuse()
    return message


def _check_items(request: pb.ScoreRequest | pb.FilterRequest, limits: Limits) -> None:
    check_counts(limits, request.items, request.images)
    check_num_questions(limits, (item.questions for item in request.items))
    check_num_frames(limits, (item.frames for item in request.items))


def _timeout_ms(request: _Message, faults: Faults) -> float | None:
    timeout_ms: float | None = faults.check(_TIMEOUT, _given(request, "timeout_ms"), ("timeout_ms",))
    return timeout_ms


def _priority(request: _Request, faults: Faults) -> Priority:
    priority: Priority = faults.check(
        _PRIORITY, _PRIORITIES.get(request.priority, str(request.priority)), ("priority",)
    )
    return priority


def _images(request: pb.ScoreRequest | pb.FilterRequest, faults: Faults) -> dict[str, ImageSource]:
    return {key: _source(source, faults, ("images", key)) for key, source in request.images.items()}


def _items(request: pb.ScoreRequest | pb.FilterRequest, faults: Faults) -> list[Item]:
    return [_item(item, index, faults) for index, item in enumerate(request.items)]


def _item(item: pb.Item, index: int, faults: Faults) -> Item:
    location = ("items", index)
    image = _given(item, "image_key")
    if item.HasField("image"):
        image = _source(item.image, faults, (*location, "image"))
    references = faults.check(_ITEM_TEXTS, list(item.references), (*location, "references"))
    reference_image = _given(item, "reference_image_key")
    if item.HasField("reference_image"):
        reference_image = _source(item.reference_image, faults, (*location, "reference_image"))
    return Item(
        id=item.id if item.HasField("id") else str(index),
        image=image,
        text=_given(item, "text"),
        references=tuple(references),
        reference_image=reference_image,
        phrases=tuple(faults.check(_ITEM_TEXTS, list(item.phrases), (*location, "phrases"))),
        questions=tuple(
            _question(each, faults, (*location, "questions", place)) for place, each in enumerate(item.questions)
        ),
        frames=_frames(item, faults, location),
        pool=faults.check(_POOL, _POOLS.get(item.pool, str(item.pool)), (*location, "pool")),
    )


def _frames(item: pb.Item, faults: Faults, location: Location) -> tuple[str | ImageSource, ...]:
    num_before, frames = faults.num, list(item.frames) or None
    faults.check(_FRAMES, frames, (*location, "frames"))
    if faults.num > num_before or frames is None:
        return ()
    faults.add(location, pictures_fault(item.WhichOneof("image_ref"), frames))
    return tuple(
        each.key if each.WhichOneof("frame_ref") == "key" else _source(each.image, faults, (*location, "frames", place))
        for place, each in enumerate(frames)
    )


def _question(question: pb.Question, faults: Faults, location: Location) -> Question:
    parents = list(question.depends_on)
    return Question(
        text=question.text,
        expect=faults.check(_EXPECTED, _ANSWERS.get(question.expect, str(question.expect)), (*location, "expect")),
        tag=faults.check(_TAG, _given(question, "tag"), (*location, "tag")),
        depends_on=tuple(faults.check(_QUESTION_INDICES, parents, (*location, "depends_on"))),
    )


def _source(source: pb.ImageSource, faults: Faults, location: Location) -> ImageSource:
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
    height = faults.check(_AT_LEAST_ONE, raw.height, (*location, "height"))
    width = faults.check(_AT_LEAST_ONE, raw.width, (*location, "width"))
    if not raw.HasField("channels"):
        return RawImage(raw.data, height, width)
    channels: Any = faults.check(_CHANNELS, raw.channels, (*location, "channels"))
    return RawImage(raw.data, height, width, channels)


def _policy(policy: pb.Policy, faults: Faults) -> list[Threshold]:
    num_before = faults.num
    faults.check(_CONDITIONS, list(policy.all), ("policy", "all"))
    if faults.num > num_before:
        return []
    return [_threshold(each, faults, ("policy", "all", index)) for index, each in enumerate(policy.all)]


def _threshold(threshold: pb.Threshold, faults: Faults, location: Location) -> Threshold:
    num_before = faults.num
    condition = Threshold(
        scorer=threshold.scorer,
        min=faults.check(_BOUND, _given(threshold, "min"), (*location, "min")),
        max=faults.check(_BOUND, _given(threshold, "max"), (*location, "max")),
        min_words=faults.check(_NUM_WORDS, _given(threshold, "min_words"), (*location, "min_words")),
    )
    if faults.num == num_before:
        faults.add(location, bounds_fault(condition.min, condition.max))
    return condition


def _combine(request: pb.ScoreRequest | pb.FilterRequest | pb.RankRequest, faults: Faults) -> dict[str, Combination]:
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
    weight = faults.check(_MODERATE, _given(term, "weight"), (*location, "weight"))
    found = Term(
        scorer=term.scorer,
        weight=1.0 if weight is None else weight,
        min=faults.check(_MODERATE, _given(term, "min"), (*location, "min")),
        max=faults.check(_MODERATE, _given(term, "max"), (*location, "max")),
    )
    if faults.num == num_before:
        faults.add(location, term_fault(found.min, found.max))
    return found


def _query(request: pb.RankRequest) -> set[str]:
    """The fields given, of the four that ask; proto3 has no empty lists, so that a lone text or image implies one."""
    given = {name for name in ("text", "image") if request.HasField(name)}
    given |= {name for name in ("images", "texts") if getattr(request, name)}
    implied = {"text": "images", "image": "texts"}
    return given | {implied[name] for name in given & implied.keys() if len(given) == 1}


def _given(request: _Message, name: Any) -> Any:
    """A field that may be unset, None if it is; Any, for each message has names of its own."""
    return getattr(request, name) if request.HasField(name) else None
