"""Flow-Factory's reward server: `POST /compute`, prompts and images in, as many rewards out.

Its client checks no count and reads no field of an item's error, so one item without a score fails the batch. It tries
every status that is not 200 three times without a pause, and a 200 with `error` ends the training at once with that
sentence: so what would fail again is answered so, and what may succeed later by its own status.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import PlumblineError, RequestError
from plumbline_serve.edge.compat.core import Core, RequestBody, all_or_nothing, field_fault, json_reply
from plumbline_serve.edge.compat.rewards import BASE, named_scorer, refuse_with, scores_of
from plumbline_serve.edge.faults import read_as
from plumbline_serve.edge.problems import problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.messages import Base64Image

CLIENT_WAITS_S = 55.0
"""Its client waits for 60 s."""
_FINAL = frozenset({400, 413, 415, 422})
"""Statuses of what would fail again."""


class _Compute(RequestBody):
    prompt: Sequence[str]
    image: Sequence[str] | None = None
    video: object = None
    condition_images: object = None
    condition_videos: object = None


def routes(core: Core) -> list[AddedRoute]:
    """`/compute`, and the same below a base path that names the scorer."""

    async def compute(request: Request) -> Response:
        async with core.asked(request, waits_s=CLIENT_WAITS_S) as asking:
            body = read_as(await asking.document("prompt", "image"), _Compute)
            for name in ("video", "condition_images", "condition_videos"):
                if getattr(body, name) is not None:
                    raise field_fault(f"/{name}", "is not scored here; only prompt and image are")
            if not body.image:
                raise field_fault("/image", "must have an image for each prompt")
            scorer = await core.scorer(named_scorer(request), given=("image", "text"))
            images = [Base64Image(each) for each in body.image]
            values = await scores_of(asking, scorer, images, body.prompt, is_deterministic=body.deterministic)
            return json_reply({"rewards": all_or_nothing(values)})

    return [AddedRoute("POST", path, compute, refuse) for path in ("/compute", f"{BASE}/compute")]


def refuse(error: PlumblineError, request_id: str) -> Response:
    """An error that its client tries again, or stops at.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    if isinstance(error, RequestError) and error.status in _FINAL:
        return json_reply({"error": f"{error.code}: {problem(error, request_id)['detail']}"})
    return refuse_with("error", error, request_id)
