"""What the formats of reward services share: probes, the scorer that a path names, and texts with images to score."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import InvalidFieldError, NotReadyError, PlumblineError
from plumbline_serve.edge.compat.core import Asking, Core, json_reply, scores_by
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.messages import ImageSource, Item, ScorerEntry, ScoreRequest

BASE = "/compat/{scorer}"
"""A base path that names the scorer, for formats whose bodies cannot."""
RETRY_AFTER_S = 2.0
GIVEN = frozenset({"image", "text"})


def health_routes(core: Core) -> list[AddedRoute]:
    """`/health`, which says what is loaded, and the same below a base path."""

    async def health(request: Request) -> Response:
        del request
        if not core.service.is_ready:
            raise NotReadyError("The service takes no work now.", retry_after_s=RETRY_AFTER_S)
        loaded = await core.service.scorers()
        rewards = {each.id: ["ready"] for each in loaded if scores_by(each, GIVEN)}
        return json_reply({"status": "ok", "rewards": rewards})

    return [AddedRoute("GET", path, health, is_open=True) for path in ("/health", f"{BASE}/health")]


def named_scorer(request: Request) -> str | None:
    """The scorer that the base path names; None: it names none."""
    name: str | None = request.path_params.get("scorer")
    return name


async def scores_of(
    asking: Asking,
    scorer: ScorerEntry,
    images: Sequence[ImageSource],
    texts: Sequence[str] | None,
    *,
    is_deterministic: bool = False,
) -> list[float | PlumblineError]:
    """A value or an error for each image, in order.

    Args:
        asking: The caller's request.
        scorer: Scores them.
        images: At least one.
        texts: One for each; None: the scorer takes none.
        is_deterministic: As our own requests say it.

    Raises:
        InvalidFieldError: There are not as many texts as images, or the scorer needs more than is there.
    """
    if texts is not None and len(texts) != len(images):
        raise InvalidFieldError(f"The request has {len(images)} images and {len(texts)} texts; there must be as many.")
    if not scores_by(scorer, GIVEN if texts is not None else {"image"}):
        needs = ", ".join(scorer.needs)
        raise InvalidFieldError(f"{scorer.id} needs {needs}, and the request does not carry that.")
    given: Sequence[str | None] = texts if texts is not None else [None] * len(images)
    items = [Item(str(index), *pair) for index, pair in enumerate(zip(images, given, strict=True))]
    reply = await asking.score(ScoreRequest(items, scorers=[scorer.id], deterministic=is_deterministic))
    return [asking.core.reward_of(result, scorer.id) for result in reply.results]


def refuse_with(key: str, error: PlumblineError, request_id: str) -> Response:
    """An error in JSON, under the name that the format has for it.

    Args:
        key: The name.
        error: Why the request fails.
        request_id: Its id.
    """
    headers = {name: value for name, value in http_headers(error).items() if name != "content-type"}
    return json_reply({key: f"{error.code}: {problem(error, request_id)['detail']}"}, error.status, **headers)
