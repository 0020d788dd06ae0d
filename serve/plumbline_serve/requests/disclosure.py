"""How much of what was computed callers are shown: vectors as they are, rounded, or none; scores to so many decimals.

Vectors give away images and texts to whoever can turn them around, and exact scores help to climb towards an image that
is made for them. Bounds, ranks and combinations are of exact scores all the same; calibrations hold for those shown.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import MissingScopeError, PlumblineError
from plumbline_models.core.protocols import Score
from plumbline_serve.messages import (
    EmbedReply,
    FilterReply,
    ItemFailure,
    ItemScores,
    ItemVerdict,
    RankReply,
    ScoreOrError,
    ScoreReply,
    SelectReply,
)
from plumbline_serve.scheduling.request_context import Caller
from plumbline_serve.settings.access import PrivacySettings

R = TypeVar("R", ScoreReply, FilterReply, RankReply, SelectReply)
Item = TypeVar("Item", ItemScores | ItemFailure, ItemVerdict | ItemFailure)
VECTOR_DECIMALS: Final = 3


class Disclosure:
    """What the settings allow.

    Args:
        settings: Of what replies show.
    """

    def __init__(self, settings: PrivacySettings | None = None) -> None:
        self._settings = settings or PrivacySettings()

    def check_embeddings(self, caller: Caller) -> None:
        """See that a caller may have vectors.

        Args:
            caller: Who asks for them.

        Raises:
            MissingScopeError: It may not.
        """
        if self._settings.embeddings == "off" and not caller.sees_embeddings:
            raise MissingScopeError("This service gives embeddings to keys of scope embed alone.")

    def of_vectors(self, reply: EmbedReply, caller: Caller) -> EmbedReply:
        """What a caller is shown of vectors.

        Args:
            reply: With all of them.
            caller: Who asked for them.
        """
        if self._settings.embeddings == "open" or caller.sees_embeddings:
            return reply
        return replace(reply, vectors=[_coarse(each) for each in reply.vectors])

    def of_scores(self, reply: R) -> R:
        """What callers are shown of scores."""
        decimals = self._settings.score_decimals
        if decimals is None:
            return reply
        match reply:
            case RankReply():
                places = [(place, _rounded((place.value, place.probability), decimals)) for place in reply.ranking]
                ranking = [replace(each, value=value, probability=chance) for each, (value, chance) in places]
                return replace(reply, ranking=ranking)
            case SelectReply():
                drawn = _rounded(reply.probabilities, decimals)  # their ratios say how far exact values are apart
                return replace(reply, values=_rounded(reply.values, decimals), probabilities=drawn)
            case ScoreReply():
                return replace(reply, results=[_rounded_item(result, decimals) for result in reply.results])
            case FilterReply():
                return replace(reply, results=[_rounded_item(result, decimals) for result in reply.results])


def _coarse(vector: NDArray[np.float32] | PlumblineError) -> NDArray[np.float32] | PlumblineError:
    return vector if isinstance(vector, PlumblineError) else np.round(vector, VECTOR_DECIMALS)


def _rounded_item(result: Item, decimals: int) -> Item:
    if isinstance(result, ItemFailure):
        return result
    shown = replace(result, scores={name: _rounded_score(score, decimals) for name, score in result.scores.items()})
    if isinstance(shown, ItemVerdict) or shown.guards is None:
        return shown
    ood_score, explained = _rounded((shown.guards.ood_score, shown.guards.explained), decimals)
    return replace(shown, guards=replace(shown.guards, ood_score=ood_score, explained=explained))


def _rounded_score(score: ScoreOrError, decimals: int) -> ScoreOrError:
    if isinstance(score, PlumblineError):
        return score
    details = {name: _rounded(value, decimals) for name, value in score.details.items()}
    return Score(round(float(score.value), decimals), details, score.logit)


def _rounded(value: Any, decimals: int) -> Any:
    """The same with its numbers rounded, however deep they lie."""
    if isinstance(value, float | np.floating):
        return round(float(value), decimals)
    if isinstance(value, Mapping):
        return {name: _rounded(each, decimals) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each, decimals) for each in value]
    return value
