"""Scores of videos, which come as frames: each frame is scored like an image, and the values become one."""

from collections.abc import Iterator, Sequence
from typing import Any

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Score, Scorer
from plumbline_serve.messages import ScoreOrError
from plumbline_serve.requests.scoring import score_cases
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Case


async def score_with_frames(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> list[ScoreOrError]:
    """A score or an error for each case, as `score_cases` has it, also where a case is a video.

    Args:
        session: The request's; the cases' images and frames are open.
        scorer: What scores.
        cases: They have what it needs.
    """
    parts = [[*case.by_frame(), *([case] if _is_pooled(scorer, case) else [])] for case in cases]
    scores = iter(await score_cases(session, scorer, [each for part in parts for each in part]))
    return [_of_case(scorer, case, [next(scores) for _ in part]) for case, part in zip(cases, parts, strict=True)]


def _is_pooled(scorer: Scorer, case: Case) -> bool:
    """Whether the frames' mean encoding is one that the scorer reads: it compares those of images and of texts."""
    is_of_two_towers = scorer.image is not None and scorer.text is not None and scorer.pair is None
    return bool(case.frames) and case.pool == "clip4clip" and is_of_two_towers


def _of_case(scorer: Scorer, case: Case, found: Sequence[ScoreOrError]) -> ScoreOrError:
    """The score of a case from those of its frames, and of their mean where it has one.

    A video of which a frame fails has no value: the mean of the others would be that of another video.
    """
    if not case.frames:
        return found[0]
    for index, score in enumerate(found):
        if isinstance(score, PlumblineError):
            where = f"Frame {index}: " if index < len(case.frames) else ""
            return type(score)(f"{where}{score.detail}", **score.facts)
    frames = list(_sound(found[: len(case.frames)]))
    values = [score.value for score in frames]
    worst = values.index(min(values) if scorer.info.higher_is_better else max(values))
    mean = Score(sum(values) / len(values))
    whole = frames[worst] if case.pool == "min" else next(_sound(found[len(case.frames) :]), mean)
    truncated = {"truncated": True} if any(score.details.get("truncated") for score in frames) else {}
    said: dict[str, Any] = {"values": values, "mean": mean.value, "min": min(values), "worst": worst}
    return Score(whole.value, {**whole.details, **truncated, "frames": said})


def _sound(scores: Sequence[ScoreOrError]) -> Iterator[Score]:
    yield from (score for score in scores if isinstance(score, Score))
