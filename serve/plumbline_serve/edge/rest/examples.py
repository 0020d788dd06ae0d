"""Requests to try in the reference: each is answered with 200 as it stands, by whatever scorers are configured."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from plumbline_models.scorers import SCORERS
from plumbline_serve.edge.schemas.example_images import EXAMPLE_IMAGE, OTHER_IMAGE

Document: TypeAlias = dict[str, Any]

IMAGE_PART = "image"
"""The part of a form that the examples name."""
_TEXTS = ("a red circle", "two blue squares")
_READS_TEXTS = frozenset({"image", "text"})


def examples(scorers: Sequence[str]) -> Mapping[str, Document]:
    """The body to try of each route; of a route that none of the scorers can answer the shape of one.

    Args:
        scorers: The names of those configured.
    """
    first, second = EXAMPLE_IMAGE, OTHER_IMAGE
    reading = [name for name in scorers if _needs(name) == _READS_TEXTS]
    policy = [{"scorer": name, "min": _low(name)} for name in (reading or list(scorers))[:2]]
    items = [{"id": "1", "image": "a", "text": _TEXTS[0]}, {"image": second, "text": _TEXTS[1]}]
    return {
        "/v1/score": {"images": {"a": first}, "items": items, "timeout_ms": 20_000},
        "/v1/rank": {"text": _TEXTS[0], "images": [second, first], "top_k": 1},
        "/v1/filter": {"policy": {"all": policy}, "items": [{"image": first, "text": _TEXTS[0]}]},
        "/v1/embed": {"texts": list(_TEXTS), "encoding": "base64"},
        "/v1/select": {"text": _TEXTS[0], "images": [second, first], "correlation": 0.5},
        "/v1/calibrations": {
            "name": "launch",
            "scorer": next(iter(scorers), ""),
            "alpha": 0.2,
            "direction": "keep_good",
            "scores": [0.31, 0.35, 0.38, 0.42, 0.12],
            "labels": [True, True, True, True, False],
        },
        "/v1/classifiers": {
            "name": "circle",
            "classes": {"yes": [first, second], "no": [second, first]},
            "prompts": {"yes": _TEXTS[0], "no": _TEXTS[1]},
        },
        "/v1/references": {"scorer": next(iter(scorers), ""), "values": [index / 100 for index in range(100)]},
        "/v1/sets/references": {"name": "launch", "images": [first, second]},
    }


def form_examples(scorers: Sequence[str]) -> Mapping[str, Document]:
    """The part `request` of a form to try, by route; its images are parts.

    Args:
        scorers: The names of those configured.
    """
    part = {"part": IMAGE_PART}
    items = [{"image": part, "text": _TEXTS[0]}]
    return {
        "/v1/score": {"items": items},
        "/v1/rank": {"image": part, "texts": list(_TEXTS)},
        "/v1/filter": examples(scorers)["/v1/filter"] | {"items": items},
        "/v1/embed": {"images": [part]},
        "/v1/select": {"text": _TEXTS[0], "images": [part]},
        "/v1/calibrations": examples(scorers)["/v1/calibrations"],
        "/v1/references": examples(scorers)["/v1/references"],
    }


def _needs(name: str) -> frozenset[str]:
    return next((scorer.info.needs for scorer in SCORERS if scorer.info.name == name), frozenset())


def _low(name: str) -> float:
    """A bound that shows what the scorer's values are about."""
    info = next((scorer.info for scorer in SCORERS if scorer.info.name == name), None)
    if info is None or info.low is None or info.high is None:
        return -1.0
    return round(info.low + 0.2 * (info.high - info.low), 3)
