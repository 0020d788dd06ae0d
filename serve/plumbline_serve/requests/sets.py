"""Values of whole sets: how diverse one is, and how far two are apart."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import Encoder
from plumbline_models.sets.distances import frechet, frechet_floor, mmd_polynomial, mmd_rbf
from plumbline_models.sets.measures import Asked, diversity_of
from plumbline_models.sets.vectors import StillWanted, unit_rows
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages.audits import AuditRequest
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.sets import (
    DistanceReply,
    DistanceRequest,
    DiversityReply,
    DiversityRequest,
    SetReply,
    SetRequest,
)
from plumbline_serve.requests.audits import audit
from plumbline_serve.requests.embedding import image_encoders, towers, truncated_texts
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.reference_sets import ReferenceSets, members_of_kept
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.set_members import PAIR, Members, check_set, computed, members_of, work_on
from plumbline_serve.requests.validation import Checks
from plumbline_serve.scheduling.concurrency import together
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.store import Artefact


async def measure(pipeline: Pipeline, request: SetRequest, kept: ReferenceSets, caller: Caller = ANYONE) -> SetReply:
    """Work out what is asked about one set or two; raises as `Service.measure` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        kept: The sets that one may be compared with by name.
        caller: Who calls.
    """
    if isinstance(request, DiversityRequest):
        return await diversity(pipeline, request, caller)
    if isinstance(request, AuditRequest):
        return await audit(pipeline, request, caller)
    return await distance(pipeline, request, kept, caller)


async def diversity(pipeline: Pipeline, request: DiversityRequest, caller: Caller = ANYONE) -> DiversityReply:
    """How many different images a set holds; see `measure`."""
    check_set(pipeline.checks, request)
    _check_companions(pipeline.checks, request)
    image, text = towers(pipeline, request.scorer)
    texts = list(request.texts or ())
    async with pipeline.session(request, caller) as session:
        await session.open(request.images)
        await session.admit([(image, request.images), (text, list(dict.fromkeys(texts)))])
        both: list[Any] = await together(
            [members_of(session, image, request), _prompts(session, text, texts, pipeline.checks)]
        )
        members, prompts = _paired(*both)
        cut = await truncated_texts(session, text, texts=texts, encodings=both[1])
        values = await computed(session, partial(_diversity, request, members, prompts), work_on("diversity", members))
    return DiversityReply(**values, timing_ms=session.timing(), errors=members.errors, truncated=tuple(cut))


async def distance(
    pipeline: Pipeline, request: DistanceRequest, kept: ReferenceSets, caller: Caller = ANYONE
) -> DistanceReply:
    """How far a set is from another, or from one that is kept; see `measure`."""
    if (request.b is None) == (request.reference is None):
        fault = {"pointer": "", "detail": "must have exactly one of b, reference"}
        raise InvalidFieldError("A set is compared with another, or with one that is kept.", errors=[fault])
    given = {"/a": request.a} if request.b is None else {"/a": request.a, "/b": request.b}
    for pointer, each in given.items():
        check_set(pipeline.checks, each, pointer)
    images = [image for each in given.values() for image in each.images]
    if images:
        pipeline.checks.count(len(images))
    reference = None if request.reference is None else await kept.get(request.reference)
    encoder = _image_encoder(pipeline, request.scorer, reference)
    name = _common_encoder(encoder, given)
    if reference is not None:
        await kept.check(reference, pipeline, encoder, request.a)
        name = reference.bound_to.scorer
    async with pipeline.session(request, caller) as session:
        await session.open(images)
        await session.admit([(encoder, images)])
        sets = [members_of(session, encoder, each, pointer) for pointer, each in given.items()]
        a, b = await together([*sets, *([] if reference is None else [members_of_kept(reference)])])
        for members in (a, b):
            members.require(PAIR)
        values = await computed(session, partial(_distances, a, b, request.rbf_sigma), work_on("distance", a, b))
    return DistanceReply(encoder=name, **values, timing_ms=session.timing(), errors_a=a.errors, errors_b=b.errors)


def _check_companions(checks: Checks, request: DiversityRequest) -> None:
    """What is given for each member is given once for each, and no more texts are encoded than images could be."""
    for name, given in (("texts", request.texts), ("weights", request.weights)):
        if given is not None and len(given) != request.num_members:
            detail = "must have one entry for each member of the set"
            raise InvalidFieldError(
                f"The {name} do not match the set.", errors=[{"pointer": f"/{name}", "detail": detail}]
            )
    if request.texts:
        checks.count(len(set(request.texts)))


def _image_encoder(pipeline: Pipeline, scorer: str | None, reference: Artefact | None) -> Encoder:
    """That of the scorer that is named; else the one that the reference is of, where that is loaded."""
    if scorer is None and reference is not None and (own := image_encoders(pipeline).get(reference.bound_to.scorer)):
        return own
    return towers(pipeline, scorer)[0]


def _common_encoder(encoder: Encoder, given: Mapping[str, EncodingSet]) -> str | None:
    """What made both sets, as far as it is known."""
    names = [each.encoder if each.embeddings else encoder.key for each in given.values()]
    known = list(dict.fromkeys(name for name in names if name is not None))
    if len(known) > 1:
        detail = "must be that of the other set: encodings of two encoders have no distance"
        raise InvalidFieldError(
            f"The sets are of two encoders, {known[0]} and {known[1]}.",
            errors=[{"pointer": "/b/encoder", "detail": detail}],
        )
    return next(iter(known), None)


async def _prompts(
    session: RequestSession, encoder: Encoder, texts: Sequence[str], checks: Checks
) -> list[EncodingOrError]:
    errors = {text: error for text in texts if (error := checks.text(text)) is not None}
    encodings = await session.text_encodings(encoder, [text for text in texts if text not in errors])
    return [errors.get(text) or encodings[text] for text in texts]


def _paired(members: Members, prompts: Sequence[EncodingOrError]) -> tuple[Members, list[EncodingOrError]]:
    """The members whose prompt can be used too, and their prompts; all where there are no prompts."""
    members = members.without({at: each for at, each in enumerate(prompts) if isinstance(each, PlumblineError)})
    members.require(1)
    return members, [prompts[place] for place in members.places] if prompts else []


def _diversity(
    request: DiversityRequest, members: Members, prompts: Sequence[EncodingOrError], still_wanted: StillWanted
) -> dict[str, Any]:
    """The values of a reply; on a thread."""
    weights = None if request.weights is None else [request.weights[place] for place in members.places]
    texts = unit_rows([np.asarray(each, np.float32) for each in prompts], "/texts") if prompts else None
    found = diversity_of(
        members.matrix(),
        Asked(request.orders, request.near_duplicate, weights),
        contents=members.contents,
        texts=texts,
        still_wanted=still_wanted,
    )
    return {"encoder": members.encoder, **found.renumbered(members.places)}


def _distances(a: Members, b: Members, sigma: float, still_wanted: StillWanted) -> dict[str, Any]:
    """The values of a reply; on a thread."""
    first, second = a.matrix(), b.matrix()
    if first.shape[1] != second.shape[1]:
        detail = f"must have {first.shape[1]} numbers in each encoding, as a has"
        pointer = b.pointer if b.pointer == "/reference" else "/b"
        raise InvalidFieldError("The sets are of two encoders.", errors=[{"pointer": pointer, "detail": detail}])
    return {
        "n_a": len(first),
        "n_b": len(second),
        "frechet": frechet(first, second, still_wanted=still_wanted),
        "frechet_floor": frechet_floor(first, second, still_wanted=still_wanted),
        "mmd_polynomial": mmd_polynomial(first, second, still_wanted=still_wanted),
        "mmd_rbf": mmd_rbf(first, second, sigma, still_wanted=still_wanted),
        "rbf_sigma": sigma,
    }
