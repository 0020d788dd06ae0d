"""The whole request path, bytes to scores, against the official program: golden weights as a local checkpoint."""

from collections.abc import Mapping
from typing import Any

import pytest

from loadtests.goldens.clips import PHOTOGRAPHS, GoldenClip
from plumbline_models.backends import Tuning
from plumbline_models.core.protocols import Score
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreRequest
from plumbline_serve.settings import Settings

CONTROL = "<end_of_text>"  # the official program takes it for the control token, we for plain text


def item_of(case: Mapping[str, Any], index: int) -> Item:
    return Item(str(index), EncodedImage((PHOTOGRAPHS / case["image"]).read_bytes()), case["caption"])


@pytest.mark.parametrize(
    ("backend", "bound"),
    [
        pytest.param("torch", 2e-6, id="torch"),
        pytest.param("openvino", 2e-6, id="openvino"),  # 1e-4 would do; measured 2.2e-7
    ],
)
async def test_served_cosines_are_the_official_ones(
    b32: GoldenClip, tuning: Tuning, backend: str, bound: float
) -> None:
    settings = Settings(
        backend=backend,
        precision="fp32",
        cache_dir=tuning.cache_dir,
        scorers={"clipscore": {**b32.options, "template": b32.golden["template"]}, "fclipscore": b32.options},
        images={"exif_orientation": "ignore", "alpha": "drop"},  # as the official program does
        replicas={"compute_threads": 1},
    )
    cases = [case for case in b32.cases if CONTROL not in case["caption"]]
    async with assembled(settings) as assembly:
        reply = await assembly.service.score(ScoreRequest([item_of(case, i) for i, case in enumerate(cases)]))
    for case, result in zip(cases, reply.results, strict=True):
        assert isinstance(result, ItemScores)
        for score in result.scores.values():
            assert isinstance(score, Score)
            assert score.details["cosine"] == pytest.approx(case["cos"], abs=bound)
