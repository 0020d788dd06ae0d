"""An audit of a set: how evenly it is spread over groups, and which elements its images show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from plumbline_models.core.errors import AccessError, InvalidFieldError, NoItemsError, PlumblineError
from plumbline_models.core.protocols import Score
from plumbline_models.core.questions import Question
from plumbline_models.sets.audit import NUM_RESAMPLES, counts_of, intervals, official_counts, skews, spread
from plumbline_models.sets.elements import Present, any_rate, missing_rate
from plumbline_models.sets.vectors import StillWanted, unit_rows
from plumbline_models.sets.zero_shot import Guess, guesses
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages.audits import AuditReply, AuditRequest, ElementRates, Elements, GroupShare
from plumbline_serve.requests.embedding import towers
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.set_members import Members, check_set, computed, members_of, work_on
from plumbline_serve.requests.validation import Case
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.scheduling.work import Work

CAUTION: Final = (
    "A group is not seen in a picture: labels by looks, of people or of programs, repeat what those who label believe. "
    "These values compare sets that were labelled in one way; they say nothing of any person, and a set that is even "
    "by them may still be unfair."
)
_QUESTION: Final = "Is there a {}?"
_IS_THERE: Final = 0.5  # P(yes) from which on an image shows an element
_ASKING: Final = "questions"  # the scorer


@dataclass(frozen=True, slots=True)
class _Labelled:
    labels: Sequence[str | None]
    guesses: Sequence[Guess] = ()
    encoder: str | None = None
    errors: Mapping[int, PlumblineError] = field(default_factory=dict)


async def audit(pipeline: Pipeline, request: AuditRequest, caller: Caller = ANYONE) -> AuditReply:
    """How evenly a set is spread; raises as `Service.measure` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.

    Raises:
        AccessError: Audits are switched off here.
    """
    if not pipeline.checks.allows_audits:
        raise AccessError("Audits of groups are switched off here: `edge.audits` switches them on.")
    _check(pipeline, request)
    asked = request.elements if request.elements is not None and request.elements.all else None
    async with pipeline.session(request, caller) as session:
        await _admit(pipeline, session, request, asked)
        labelled = await _labelled(pipeline, session, request)
        rates = None if asked is None else await _element_rates(pipeline, session, request, asked)
        values = await computed(
            session,
            partial(_values, request, labelled.labels),
            Work("audit", NUM_RESAMPLES * (1.0 + len(labelled.labels))),
        )
    return AuditReply(
        caution=CAUTION,
        encoder=labelled.encoder,
        **values,
        elements=rates,
        timing_ms=session.timing(),
        guesses=labelled.guesses,
        errors=labelled.errors,
    )


def _check(pipeline: Pipeline, request: AuditRequest) -> None:
    faults = {
        "/groups": "must have two groups or more, each once"
        if len(set(request.groups)) != max(2, len(request.groups))
        else None,
        "/labels": "must have exactly one of labels and prompts"
        if (request.labels is None) == (request.prompts is None)
        else None,
        "/prompts": _unmatched(request.prompts, len(request.groups), "group"),
        "/wanted": _unmatched(request.wanted, len(request.groups), "group"),
        "/pair": "must be two of the groups" if not _is_pair(request) else None,
        "/elements": "must come with images"
        if request.elements is not None and request.elements.all and not request.images
        else None,
    }
    if request.num_members:
        faults["/labels"] = faults["/labels"] or _unmatched(request.labels, request.num_members, "member of the set")
    for pointer, fault in faults.items():
        if fault is not None:
            raise InvalidFieldError(f"The field {pointer[1:]} {fault}.", errors=[{"pointer": pointer, "detail": fault}])
    if request.num_members or request.prompts is not None:
        check_set(pipeline.checks, request)
    elif not request.labels:
        raise NoItemsError("The set has no members.")


def _unmatched(given: Sequence[object] | None, num: int, what: str) -> str | None:
    return f"must have one entry for each {what}" if given is not None and len(given) != num else None


def _is_pair(request: AuditRequest) -> bool:
    if request.pair is None:
        return True
    known = set(request.groups) if request.compat is None else {*request.groups, *request.pair}
    return len(set(request.pair)) == len(request.pair) == 2 and set(request.pair) <= known  # noqa: PLR2004 - a pair


async def _admit(pipeline: Pipeline, session: RequestSession, request: AuditRequest, asked: Elements | None) -> None:
    """Open the images once, and see that everything that they are asked can be answered in time."""
    await session.open(request.images)
    needs: list[Any] = []
    if request.prompts is not None:
        image, text = towers(pipeline, request.scorer)
        needs += [(image, request.images), (text, list(dict.fromkeys(request.prompts)))]
    if asked is not None:
        needs += pipeline.needs([pipeline.checks.scorer(_ASKING, "/elements")], _cases(request, asked))
    await session.admit(needs)


async def _labelled(pipeline: Pipeline, session: RequestSession, request: AuditRequest) -> _Labelled:
    if request.prompts is None:
        return _Labelled(list(request.labels or ()))
    image, text = towers(pipeline, request.scorer)
    for at, prompt in enumerate(request.prompts):
        if (error := pipeline.checks.text(prompt)) is not None:
            raise type(error)(error.detail, errors=[{"pointer": f"/prompts/{at}", "detail": error.detail}])
    of_prompts = await session.text_encodings(text, request.prompts)
    prompts = [of_prompts[prompt] for prompt in request.prompts]
    members = await members_of(session, image, request)
    members.require(1)
    found = await computed(session, partial(_guess, request, members, prompts), work_on("guess", members))
    return _Labelled([guess.label for guess in found], found, members.encoder, members.errors)


def _guess(
    request: AuditRequest, members: Members, prompts: Sequence[EncodingOrError], still_wanted: StillWanted
) -> list[Guess]:
    """On a thread."""
    still_wanted()
    for each in prompts:
        if isinstance(each, PlumblineError):
            raise each
    vectors = unit_rows([np.asarray(each, np.float32) for each in prompts], "/prompts")
    return guesses(members.matrix(), vectors, request.groups, margin=request.margin)


def _values(request: AuditRequest, labels: Sequence[str | None], still_wanted: StillWanted) -> dict[str, Any]:
    """What is said of the groups; on a thread."""
    if request.compat == "official":
        counted = official_counts(labels)
        labels = [label if label is not None else "unknown" for label in labels]
    else:
        counted = dict(zip(request.groups, counts_of(labels, request.groups), strict=True))
    names, counts = list(counted), list(counted.values())
    n = sum(counts)
    said: dict[str, Any] = {
        "n": n,
        "num_unknown": len(labels) - n,
        "absent": [name for name in names if not counted[name]],
    }
    if n == 0:
        shares = [GroupShare(name, 0, 0.0, None) for name in names]
        return {**said, "groups": shares, "max_skew": None, "spread": None, "intervals": {}}
    pair = None if request.pair is None else _places(request.pair, names)
    found = skews(counts, request.wanted if request.compat is None else None)
    still_wanted()
    places = {name: place for place, name in enumerate(names)}
    members = [-1 if label is None else places[label] for label in labels]
    return {
        **said,
        "groups": [
            GroupShare(name, count, count / n, skew) for name, count, skew in zip(names, counts, found, strict=True)
        ],
        "max_skew": max(skew for skew in found if skew is not None),
        "spread": spread(counts, pair, request.association),
        "intervals": intervals(members, len(names), pair, association=request.association),
    }


def _places(pair: Sequence[str], names: Sequence[str]) -> tuple[int, int]:
    """The indices of two groups; -1 for one that was not seen."""
    first, second = (names.index(name) if name in names else -1 for name in pair)
    return first, second


def _cases(request: AuditRequest, elements: Elements) -> list[Case]:
    questions = tuple(Question(_QUESTION.format(element)) for element in elements.all)
    return [Case(str(at), image, None, questions=questions) for at, image in enumerate(request.images)]


async def _element_rates(
    pipeline: Pipeline, session: RequestSession, request: AuditRequest, elements: Elements
) -> ElementRates:
    """Ask each image about each element; those that cannot be asked are left out."""
    cases = _cases(request, elements)
    pipeline.checks.count(len(cases), len(cases) * len(elements.all))
    found = await pipeline.run(session, cases, [pipeline.checks.scorer(_ASKING, "/elements")])
    scores = [each[_ASKING] for each in found]
    answers = [score.details["answers"] for score in scores if isinstance(score, Score)]
    if not answers:
        raise next(score for score in scores if isinstance(score, PlumblineError))
    present: Present = np.array([[answer["p_yes"] >= _IS_THERE for answer in each] for each in answers], np.bool_)
    ends = np.cumsum([len(elements.explicit), len(elements.implied), len(elements.forbidden)])
    explicit, implied, forbidden, markers = np.split(present, ends, axis=1)
    return ElementRates(
        explicit_missing=missing_rate(explicit),
        implied_missing=missing_rate(implied),
        hallucination=any_rate(forbidden),
        cultural_accuracy=any_rate(markers),
        n=len(answers),
    )
