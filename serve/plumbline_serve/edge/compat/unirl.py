"""UniRL's reward service: `POST /score`, several rewards for each sample, each with its own error.

A reward that is not there marks its sample as failed at the client; a whole request fails only where none of it can be
scored. The values are the scorers' own, in UniRL's scales of the same names where `edge.reward_divisors` says so.
"""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import MissingImageError, PlumblineError, UnknownScorerError
from plumbline_serve.edge.compat.core import (
    Asking,
    Body,
    Core,
    RequestBody,
    ValueOrError,
    field_fault,
    json_reply,
    scores_by,
)
from plumbline_serve.edge.compat.rewards import GIVEN, refuse_with
from plumbline_serve.edge.faults import read_as
from plumbline_serve.edge.problems import problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.messages import Base64Image, BrokenImage, Item, ScoreRequest

CLIENT_WAITS_S = 290.0
"""Its client waits for 300 s."""
_MAX_REWARDS = 64
_BAD_REQUEST = 400


class _Turn(Body):
    text: str
    image_b64: str | None = None


class _Sample(Body):
    history: Sequence[_Turn]
    required_rewards: Sequence[str]


class _Score(RequestBody):
    requests: Sequence[_Sample]


def routes(core: Core) -> list[AddedRoute]:
    """`/score` and `/rewards`; `/health` comes from what reward services share."""

    async def score(request: Request) -> Response:
        async with core.asked(request, waits_s=CLIENT_WAITS_S) as asking:
            body = read_as(await asking.document("requests"), _Score)
            await _check(core, body.requests)
            found = await _values(asking, body.requests, is_deterministic=body.deterministic)
            return json_reply(_document(body.requests, found))

    async def rewards(request: Request) -> Response:
        del request
        loaded = await core.service.scorers()
        return json_reply({"rewards": [each.id for each in loaded if scores_by(each, GIVEN)]})

    return [AddedRoute("POST", "/score", score, refuse), AddedRoute("GET", "/rewards", rewards, refuse)]


def refuse(error: PlumblineError, request_id: str) -> Response:
    """An error as its clients show it; they try all but 200 three times, a second apart.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    reply = refuse_with("detail", error, request_id)
    if isinstance(error, UnknownScorerError):
        reply.status_code = _BAD_REQUEST
    return reply


async def _check(core: Core, samples: Sequence[_Sample]) -> None:
    known = {each.id for each in await core.service.scorers() if scores_by(each, GIVEN)}
    for index, sample in enumerate(samples):
        if not sample.history:
            raise field_fault(f"/requests/{index}/history", "must not be empty")
        if not 0 < len(sample.required_rewards) <= _MAX_REWARDS:
            raise field_fault(f"/requests/{index}/required_rewards", f"must have 1 to {_MAX_REWARDS} names")
        for name in sample.required_rewards:
            if name not in known:
                raise UnknownScorerError(f"There is no reward {name[:64]!r} here; loaded: {', '.join(sorted(known))}.")


async def _values(
    asking: Asking, samples: Sequence[_Sample], *, is_deterministic: bool
) -> dict[int, dict[str, ValueOrError]]:
    """By place of the sample and name of the reward; samples of the same rewards are scored together."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(tuple(dict.fromkeys(sample.required_rewards)), []).append(index)
    found: dict[int, dict[str, ValueOrError]] = {}
    for names, indices in groups.items():
        items = [_item(index, samples[index]) for index in indices]
        reply = await asking.score(ScoreRequest(items, scorers=names, deterministic=is_deterministic))
        for index, result in zip(indices, reply.results, strict=True):
            found[index] = {name: asking.core.reward_of(result, name) for name in names}
    return found


def _item(index: int, sample: _Sample) -> Item:
    """The last turn, which is what images are scored by."""
    turn = sample.history[-1]
    if turn.image_b64 is None:
        missing = MissingImageError("The last turn has no image_b64; videos are not scored here.")
        return Item(str(index), BrokenImage(missing), turn.text)
    return Item(str(index), Base64Image(turn.image_b64), turn.text)


def _document(samples: Sequence[_Sample], found: dict[int, dict[str, ValueOrError]]) -> dict[str, Any]:
    results: list[dict[str, dict[str, float]]] = []
    errors: list[dict[str, str]] = []
    for index in range(len(samples)):
        values = found[index].items()
        results.append({name: {name: value} for name, value in values if not isinstance(value, PlumblineError)})
        errors.append({name: _sentence(error) for name, error in values if isinstance(error, PlumblineError)})
    return {"results": results, "errors": errors}


def _sentence(error: PlumblineError) -> str:
    return f"{error.code}: {problem(error)['detail']}"
