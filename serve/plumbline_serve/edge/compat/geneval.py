"""GenEval's form of flow_grpo's pickled `POST`: what an image must show, as metadata, and several lists back.

Its own server runs a detector over `include` and `exclude`. Here the `prompt` of each metadata is scored by a scorer of
probabilities, such as `vqascore`; an image is strictly right where that is at least a half.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.edge.compat.core import Core, field_fault, scores_by
from plumbline_serve.edge.compat.rewards import GIVEN
from plumbline_serve.messages import ScorerEntry

METADATA: Final = "meta_datas"
FIELDS: Final = frozenset({METADATA, "only_strict"})
RIGHT: Final = 0.5
OTHER_TAG: Final = -10.0
"""What stands in a group's list for an image of another one."""


def prompts_of(metadata: Any) -> list[str]:
    """The prompt of each image.

    Args:
        metadata: As the request has it.

    Raises:
        InvalidFieldError: It is no list of dicts with a prompt and a tag.
    """
    if not isinstance(metadata, list | tuple) or not all(_is_metadata(each) for each in metadata):
        raise field_fault(f"/{METADATA}", "must be a list of dicts that have the texts prompt and tag")
    return [each["prompt"] for each in metadata]


def _is_metadata(each: Any) -> bool:
    return isinstance(each, dict) and all(isinstance(each.get(name), str) for name in ("prompt", "tag"))


async def scorer_of(core: Core, name: str | None) -> ScorerEntry:
    """The scorer of a name, or the first one of probabilities that an image shows a text.

    Args:
        core: What answers.
        name: As the path has it; None: the first.

    Raises:
        InvalidFieldError: Its values are no probabilities.
        UnknownScorerError: It is not loaded.
    """
    able = [each for each in await core.service.scorers() if _is_probability(each)]
    if name is None and able:
        return able[0]
    found = await core.scorer(name, given=GIVEN)
    if found not in able:
        raise InvalidFieldError(f"GenEval's form needs a scorer of probabilities by text, and {found.id} is none.")
    return found


def _is_probability(scorer: ScorerEntry) -> bool:
    return scorer.needs_text and scores_by(scorer, GIVEN) and (scorer.low, scorer.high) == (0.0, 1.0)


def lists_of(values: Sequence[float], metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the client reads.

    Args:
        values: Of each image.
        metadata: Of each.
    """
    strict, tags = [float(value >= RIGHT) for value in values], [each["tag"] for each in metadata]
    return {
        "scores": list(values),
        "rewards": list(values),
        "strict_rewards": strict,
        "group_rewards": _by_tag(values, tags),
        "group_strict_rewards": _by_tag(strict, tags),
    }


def _by_tag(values: Sequence[float], tags: Sequence[str]) -> dict[str, list[float]]:
    return {
        tag: [value if each == tag else OTHER_TAG for value, each in zip(values, tags, strict=True)]
        for tag in dict.fromkeys(tags)
    }
