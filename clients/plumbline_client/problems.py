"""What went wrong, as the service says it: RFC 9457 problem documents."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class ReplyModel(BaseModel):
    """Base of everything the service replies: read-only, and new fields of newer services are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class FieldProblem(ReplyModel):
    """One faulty field of a request."""

    pointer: str = ""
    """Where, as a JSON pointer into the request: `/items/0/image`."""
    detail: str = ""


class Problem(ReplyModel):
    """One problem, of a request or of one of its items; the same over REST and gRPC."""

    type: str = "about:blank"
    """A stable URI of the kind of problem."""
    title: str = ""
    status: int
    """An HTTP status, over gRPC as well."""
    detail: str = ""
    code: str = ""
    """Stable, in snake case, to be compared by programs: `image_undecodable`."""
    errors: tuple[FieldProblem, ...] = ()
    retry_after_ms: float | None = None
    """When a retry is likely to be served, from the reply on; with 429 and 503."""
    reason: str | None = None
    """Why there is no room, with `overloaded`: `deadline`, `wait`, `full` or `late`."""
    estimated_wait_ms: int | None = None
    """When the answer would have been there, from the reply on; with `overloaded`."""
    request_id: str | None = None


def problem_of(document: dict[str, Any], fallback: Problem) -> Problem:
    """Read a problem document, with `fallback` for what it does not say.

    Args:
        document: The parsed JSON of an error reply; anything else than a problem document has no effect.
        fallback: A problem made of the reply's status alone.
    """
    known = {key: value for key, value in document.items() if value is not None}
    return Problem.model_validate({**fallback.model_dump(), **known})
