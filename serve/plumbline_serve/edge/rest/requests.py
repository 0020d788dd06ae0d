"""REST's bodies read as the service's messages, with the bytes that their images name."""

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from plumbline_models.core.errors import MalformedRequestError, UnknownImageError
from plumbline_models.core.questions import Question
from plumbline_serve import messages
from plumbline_serve.edge import schemas
from plumbline_serve.edge.faults import Faults, read_as
from plumbline_serve.edge.rules import check_counts, check_num_frames, check_num_questions, url_image
from plumbline_serve.edge.values import Combinations
from plumbline_serve.messages import (
    Base64Image,
    BrokenImage,
    Combination,
    EncodedImage,
    GuardOptions,
    ImageSource,
    Item,
    RawImage,
    Term,
    Threshold,
)
from plumbline_serve.messages.audits import AuditRequest, Elements
from plumbline_serve.messages.decisions import CalibrationRequest
from plumbline_serve.messages.drift import ReferenceRequest
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.sets import DistanceRequest, DiversityRequest, ReferenceSetRequest
from plumbline_serve.settings import Limits

B = TypeVar("B", bound=schemas.Request)
Parts: TypeAlias = Mapping[str, bytes] | None
"""The bytes of a form's parts by name; None where the body is no form."""

_AS_SENT = (
    "groups", "labels", "prompts", "margin", "pair", "wanted", "association", "compat", "scorer", "timeout_ms",
    "priority", "deterministic",
)  # fmt: skip
"""Fields of an audit that are the message's as they are."""
_OF_SETS = (schemas.DiversityRequest, schemas.DistanceRequest, schemas.AuditRequest, schemas.ReferenceSetRequest)
"""Whose lists may be longer than items; they are counted as they are read."""
_COMBINE: TypeAdapter[Any] = TypeAdapter(Combinations[schemas.Combination])
_AS_BROWSERS_WRITE = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
"""What the name of a form's part becomes on its way (HTML, multipart/form-data encoding algorithm)."""


def read_document(document: Any, schema: type[B], limits: Limits) -> B:
    """Read a parsed JSON document as its schema.

    Args:
        document: What the JSON holds.
        schema: What the route takes.
        limits: The service's.

    Raises:
        TooManyItemsError: It holds more items, questions, images or texts than allowed; looked at first, for reading
            each of millions would hold up everybody else.
        InvalidFieldError: It does not fit.
    """
    if isinstance(document, dict) and schema not in _OF_SETS:
        check_counts(limits, *(document.get(name) for name in ("items", "images", "texts")))
        classes = document.get("classes")
        check_counts(limits, *(classes.values() if isinstance(classes, dict) else ()))
        items = document.get("items")
        known = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
        check_num_questions(limits, (each.get("questions") for each in known))
        check_num_frames(limits, (each.get("frames") for each in known))
    return read_as(document, schema)


def score_request(body: schemas.ScoreRequest, parts: Parts) -> messages.ScoreRequest:
    """The message of a body of `POST /v1/score`.

    Args:
        body: What it holds.
        parts: The bytes that its images name.
    """
    return messages.ScoreRequest(
        items=_items(body.items, parts),
        images=_images(body.images, parts),
        scorers=body.scorers,
        combine=_combine(body.combine),
        guards=None if body.guards is None else GuardOptions(**body.guards.model_dump()),
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def read_combine(document: bytes) -> dict[str, Combination]:
    """What a request's `combine` says, by itself.

    Args:
        document: JSON.

    Raises:
        MalformedRequestError: It is none.
        InvalidFieldError: It does not fit.
    """
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError("What is to be combined is not JSON.") from error
    try:
        return _combine(_COMBINE.validate_python(parsed))
    except ValidationError as error:
        faults = Faults()
        faults.add_invalid(error, ("combine",))
        raise faults.error() from error


def filter_request(body: schemas.FilterRequest, parts: Parts) -> messages.FilterRequest:
    """The message of a body of `POST /v1/filter`; see `score_request`."""
    return messages.FilterRequest(
        policy=[Threshold(**each.model_dump()) for each in body.policy.all],
        items=_items(body.items, parts),
        images=_images(body.images, parts),
        combine=_combine(body.combine),
        explain=body.explain,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def rank_request(body: schemas.RankRequest, parts: Parts) -> messages.RankRequest:
    """The message of a body of `POST /v1/rank`; see `score_request`."""
    images = [body.image] if body.image is not None else body.images or []
    texts = [body.text] if body.text is not None else body.texts or []
    return messages.RankRequest(
        images=[_source(image, parts) for image in images],
        texts=texts,
        scorer=body.scorer,
        combine=_combine(body.combine),
        top_k=body.top_k,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def select_request(body: schemas.SelectRequest, parts: Parts) -> messages.SelectRequest:
    """The message of a body of `POST /v1/select`; see `score_request`."""
    return messages.SelectRequest(
        text=body.text,
        images=[_source(image, parts) for image in body.images],
        scorer=body.scorer,
        combine=_combine(body.combine),
        correlation=body.correlation,
        correlation_interval=body.correlation_interval,
        temperature=body.temperature,
        seed=body.seed,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def calibration_request(body: schemas.CalibrationRequest, parts: Parts) -> CalibrationRequest:
    """The message of a body of `POST /v1/calibrations`; see `score_request`."""
    del parts  # it has no images
    given: dict[str, Any] = {name: getattr(body, name) for name in type(body).model_fields}
    given["combine"] = _combine(body.combine)
    return CalibrationRequest(**given)


def classifier_request(body: schemas.ClassifierRequest, parts: Parts) -> messages.ClassifierRequest:
    """The message of a body of `POST /v1/classifiers`; see `score_request`."""
    return messages.ClassifierRequest(
        name=body.name,
        classes={name: [_source(image, parts) for image in given] for name, given in body.classes.items()},
        prompts=body.prompts,
        scorer=body.scorer,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def reference_request(body: schemas.ReferenceRequest, parts: Parts) -> ReferenceRequest:
    """The message of a body of `POST /v1/references`; see `score_request`."""
    del parts  # it has no images
    return ReferenceRequest(**{name: getattr(body, name) for name in type(body).model_fields})


def embed_request(body: schemas.EmbedRequest, parts: Parts) -> messages.EmbedRequest:
    """The message of a body of `POST /v1/embed`; see `score_request`."""
    return messages.EmbedRequest(
        images=[_source(image, parts) for image in body.images or []],
        texts=body.texts or [],
        scorer=body.scorer,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def diversity_request(body: schemas.DiversityRequest, parts: Parts) -> DiversityRequest:
    """The message of a body of `POST /v1/sets/diversity`; see `score_request`."""
    return DiversityRequest(
        **_set(body, parts),
        texts=body.texts,
        weights=body.weights,
        orders=[float(order) for order in body.orders],
        near_duplicate=body.near_duplicate,
        scorer=body.scorer,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def distance_request(body: schemas.DistanceRequest, parts: Parts) -> DistanceRequest:
    """The message of a body of `POST /v1/sets/distance`; see `score_request`."""
    return DistanceRequest(
        a=EncodingSet(**_set(body.a, parts)),
        b=None if body.b is None else EncodingSet(**_set(body.b, parts)),
        reference=body.reference,
        rbf_sigma=body.rbf_sigma,
        scorer=body.scorer,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def reference_set_request(body: schemas.ReferenceSetRequest, parts: Parts) -> ReferenceSetRequest:
    """The message of a body of `POST /v1/sets/references`; see `score_request`."""
    return ReferenceSetRequest(
        **_set(body, parts),
        name=body.name,
        scorer=body.scorer,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        deterministic=body.deterministic,
    )


def audit_request(body: schemas.AuditRequest, parts: Parts) -> AuditRequest:
    """The message of a body of `POST /v1/sets/audit`; see `score_request`."""
    named = {name: getattr(body, name) for name in _AS_SENT}
    elements = None if body.elements is None else Elements(**body.elements.model_dump())
    return AuditRequest(**_set(body, parts), **named, elements=elements)


def _set(body: schemas.EncodingSet | schemas.AuditRequest, parts: Parts) -> dict[str, Any]:
    return {
        "images": [_source(image, parts) for image in body.images or ()],
        "embeddings": body.embeddings or (),
        "hashes": body.hashes or (),
        "encoder": body.encoder,
    }


def _items(items: list[schemas.Item], parts: Parts) -> list[Item]:
    return [
        Item(
            id=str(index) if item.id is None else item.id,
            image=_image(item.image, parts),
            text=item.text,
            references=tuple(item.references or ()),
            reference_image=_image(item.reference_image, parts),
            phrases=tuple(item.phrases or ()),
            questions=tuple(map(_question, item.questions or ())),
            frames=tuple(_frame(frame, parts) for frame in item.frames or ()),
            pool=item.pool,
            group=item.group,
        )
        for index, item in enumerate(items)
    ]


def _question(question: schemas.Question) -> Question:
    return Question(question.text, question.expect, question.tag, tuple(question.depends_on))


def _combine(combine: Mapping[str, schemas.Combination]) -> dict[str, Combination]:
    return {
        name: Combination(each.method, [Term(**term.model_dump()) for term in each.terms])
        for name, each in combine.items()
    }


def _image(image: str | schemas.ImageSource | None, parts: Parts) -> str | ImageSource | None:
    return _source(image, parts) if isinstance(image, schemas.ImageSource) else image


def _frame(frame: str | schemas.ImageSource, parts: Parts) -> str | ImageSource:
    return _source(frame, parts) if isinstance(frame, schemas.ImageSource) else frame


def _images(images: Mapping[str, schemas.ImageSource], parts: Parts) -> dict[str, ImageSource]:
    return {key: _source(image, parts) for key, image in images.items()}


def _source(source: schemas.ImageSource, parts: Parts) -> ImageSource:
    if source.b64 is not None:
        return Base64Image(source.b64)
    if source.url is not None:
        return url_image(source.url)
    if parts is None:
        return BrokenImage(UnknownImageError("Only a multipart/form-data request has parts to name."))
    name = source.part or ""
    data = parts.get(name) if name in parts else parts.get(name.translate(_AS_BROWSERS_WRITE))
    if data is None:
        return BrokenImage(UnknownImageError("The request has no part of the name that the image gives."))
    if source.raw is not None:
        return RawImage(data, source.raw.height, source.raw.width, source.raw.channels)
    return EncodedImage(data)
