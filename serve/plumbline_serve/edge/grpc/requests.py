"""gRPC's messages read as the service's, with the same checks as REST's bodies and refused in the same words."""

from typing import Any

from pydantic import TypeAdapter

from plumbline_serve import messages
from plumbline_serve.edge.faults import Faults
from plumbline_serve.edge.grpc.fields import (
    AT_LEAST_ONE,
    combine,
    given,
    images,
    items,
    policy,
    priority,
    source,
    timeout_ms,
)
from plumbline_serve.edge.rules import check_counts, check_num_frames, check_num_questions, choice_fault, query_fault
from plumbline_serve.edge.values import Correlation, CorrelationInterval, ScorerNames, Seed, Temperature
from plumbline_serve.settings import Limits
from plumbline_wire.v1 import scoring_pb2 as pb

_SCORERS: TypeAdapter[Any] = TypeAdapter(ScorerNames)
_CORRELATION: TypeAdapter[Any] = TypeAdapter(Correlation)
_INTERVAL: TypeAdapter[Any] = TypeAdapter(CorrelationInterval)
_TEMPERATURE: TypeAdapter[Any] = TypeAdapter(Temperature)
_SEED: TypeAdapter[Any] = TypeAdapter(Seed)


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
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        images=images(request, faults),
        items=items(request, faults),
        scorers=faults.check(_SCORERS, list(request.scorers) or None, ("scorers",)),
        combine=combine(request, faults),
        guards=messages.GuardOptions(request.guards.views, request.guards.explain)
        if request.HasField("guards")
        else None,
    )
    faults.refuse()
    return message


def filter_request(request: pb.FilterRequest, limits: Limits) -> messages.FilterRequest:
    """What a call of `Filter` asks for; see `score_request`."""
    _check_items(request, limits)
    faults = Faults()
    message = messages.FilterRequest(
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        images=images(request, faults),
        items=items(request, faults),
        policy=policy(request.policy, faults),
        combine=combine(request, faults),
        explain=request.explain,
    )
    faults.refuse()
    return message


def rank_request(request: pb.RankRequest, limits: Limits) -> messages.RankRequest:
    """What a call of `Rank` asks for; see `score_request`."""
    check_counts(limits, request.images, request.texts)
    faults = Faults()
    text = given(request, "text")
    several = [source(each, faults, ("images", index)) for index, each in enumerate(request.images)]
    one = [source(request.image, faults, ("image",))] if request.HasField("image") else []
    message = messages.RankRequest(
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        images=one or several,
        texts=list(request.texts) if text is None else [text],
        scorer=given(request, "scorer"),
        combine=combine(request, faults),
        top_k=faults.check(AT_LEAST_ONE, given(request, "top_k"), ("top_k",)),
    )
    if not faults.num:
        faults.add((), query_fault(_query(request)))
    faults.refuse()
    return message


def select_request(request: pb.SelectRequest, limits: Limits) -> messages.SelectRequest:
    """What a call of `Select` asks for; see `score_request`."""
    check_counts(limits, request.images)
    faults = Faults()
    interval = list(request.correlation_interval) or None
    message = messages.SelectRequest(
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        text=request.text,
        images=[source(each, faults, ("images", index)) for index, each in enumerate(request.images)],
        scorer=given(request, "scorer"),
        combine=combine(request, faults),
        correlation=faults.check(_CORRELATION, given(request, "correlation"), ("correlation",)),
        correlation_interval=faults.check(_INTERVAL, interval, ("correlation_interval",)),
        temperature=faults.check(_TEMPERATURE, given(request, "temperature"), ("temperature",)),
        seed=faults.check(_SEED, given(request, "seed"), ("seed",)),
    )
    faults.refuse()
    return message


def embed_request(request: pb.EmbedRequest, limits: Limits) -> messages.EmbedRequest:
    """What a call of `Embed` asks for; see `score_request`."""
    check_counts(limits, request.images, request.texts)
    faults = Faults()
    message = messages.EmbedRequest(
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        images=[source(each, faults, ("images", index)) for index, each in enumerate(request.images)],
        texts=list(request.texts),
        scorer=given(request, "scorer"),
    )
    if not faults.num:
        faults.add((), choice_fault(images=message.images or None, texts=message.texts or None))
    faults.refuse()
    return message


def _check_items(request: pb.ScoreRequest | pb.FilterRequest, limits: Limits) -> None:
    check_counts(limits, request.items, request.images)
    check_num_questions(limits, (item.questions for item in request.items))
    check_num_frames(limits, (item.frames for item in request.items))


def _query(request: pb.RankRequest) -> set[str]:
    """The fields given, of the four that ask; proto3 has no empty lists, so that a lone text or image implies one."""
    given = {name for name in ("text", "image") if request.HasField(name)}
    given |= {name for name in ("images", "texts") if getattr(request, name)}
    implied = {"text": "images", "image": "texts"}
    return given | {implied[name] for name in given & implied.keys() if len(given) == 1}
