"""Replies to the parts of a call, joined to the reply that the whole would have had."""

from collections.abc import Sequence
from typing import Any, TypeVar

from plumbline_client.errors import UnexpectedReplyError
from plumbline_client.replies import (
    EmbedReply,
    FilterReply,
    IndexedProblem,
    RankReply,
    ScoreReply,
    Timing,
)

R = TypeVar("R", ScoreReply, FilterReply)
A = TypeVar("A", ScoreReply, FilterReply, RankReply, EmbedReply)


def join_results(replies: Sequence[R]) -> R:
    """One reply of results, in the order of the parts."""
    return _joined(replies, results=tuple(result for reply in replies for result in reply.results))


def join_vectors(replies: Sequence[tuple[int, EmbedReply]]) -> EmbedReply:
    """One reply of vectors, in the order of the parts.

    Args:
        replies: Each with the index of its first input.

    Raises:
        UnexpectedReplyError: Another encoder answered in between.
    """
    _check_same("encoders", [(reply.encoder, reply.dim) for _, reply in replies])
    return _joined(
        [reply for _, reply in replies],
        vectors=tuple(vector for _, reply in replies for vector in reply.vectors),
        truncated=tuple(first + index for first, reply in replies for index in reply.truncated),
        num_tokens=sum(reply.num_tokens for _, reply in replies),
    )


def join_ranking(replies: Sequence[tuple[int, RankReply]], *, higher_is_better: bool, top_k: int | None) -> RankReply:
    """One ranking of all candidates, ties by index; without probabilities, which are among the candidates of a part.

    Args:
        replies: Each with the index of its first candidate.
        higher_is_better: Of the values.
        top_k: Places to keep; None: all.

    Raises:
        UnexpectedReplyError: Another scorer answered in between.
    """
    _check_same("scorers", [reply.scorer for _, reply in replies])
    places = [
        place.model_copy(update={"index": first + place.index, "probability": None})
        for first, reply in replies
        for place in reply.ranking
    ]
    places.sort(key=lambda place: (-place.value if higher_is_better else place.value, place.index))
    errors = (
        IndexedProblem(index=first + failed.index, error=failed.error)
        for first, reply in replies
        for failed in reply.errors
    )
    return _joined([reply for _, reply in replies], ranking=tuple(places[:top_k]), errors=tuple(errors))


def _joined(replies: Sequence[A], **fields: Any) -> A:
    timings = [reply.timing_ms for reply in replies]
    total = Timing(**{name: sum(getattr(each, name) for each in timings) for name in Timing.model_fields})
    named = next((reply.request_id for reply in replies if reply.request_id), "")
    return replies[0].model_copy(update={**fields, "request_id": named, "timing_ms": total})


def _check_same(what: str, named: Sequence[object]) -> None:
    if len(set(named)) > 1:
        raise UnexpectedReplyError(f"Parts of the call were answered by different {what}: {named[0]} and {named[-1]}.")
