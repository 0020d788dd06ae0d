"""Rows as members of a set, by the encodings that their scores were made of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from plumbline_client import Image
from plumbline_models.core.errors import UnknownScorerError
from plumbline_models.sets.video import pooled
from plumbline_serve.local import Plumbline
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import Settings
from tests.serve.offline.samples import image_bytes

FILES = [image_bytes(number) for number in range(4)]
ROWS = [
    Row(0, image=FILES[0], text="a red circle"),
    Row(1, image=FILES[1], text="a blue square"),
    Row(2, image=b"no image", text="a star"),
    Row(3, frames=FILES[1:], text="a red circle"),
    Row(4, image=FILES[0], text="a red circle"),
    Row(5, image=FILES[3]),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a process that keeps no encoding once a request is answered."""
    return Settings(
        backend="torch",
        precision="fp32",
        scorers={"clipscore": {}, "qualiclip": {}, "integrity": {}},
        cache_dir=tmp_path,
        store=f"sqlite:///{tmp_path / 'store.db'}",
        caches={"image_bytes": 0, "text_bytes": 0, "pair_bytes": 0},
    )


@pytest.fixture
def runner(settings: Settings) -> Iterator[InProcessRunner]:
    with InProcessRunner(settings, makes_members=True) as runner:
        yield runner


def num_encoded(runner: InProcessRunner) -> dict[str, float]:
    """How many inputs each encoder was given."""
    assert runner._service is not None
    text = runner._run(runner._service.metrics()).result().decode()
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {each.labels["model"]: each.value for each in samples if each.name == "plumbline_batch_size_sum"}


def test_members_are_what_was_scored_and_nothing_is_encoded_twice(runner: InProcessRunner, settings: Settings) -> None:
    found = [each.member for each in runner.score(ROWS)]
    encoded = num_encoded(runner)
    key = runner.facts.set_encoder
    assert encoded[key] == 4  # files
    assert encoded[key.removesuffix("image") + "text"] == 3  # different texts
    with Plumbline(settings) as client:
        vectors: list[Any] = [np.array(each.floats()) for each in client.embed(map(Image.data, FILES)).vectors]
        words = np.array(client.embed(["a red circle"]).vectors[0].floats())
    first, second, broken, video, same, alone = found
    assert broken is None
    assert first is not None
    assert video is not None
    assert alone is not None
    assert same is not None
    assert second is not None
    assert first.image == pytest.approx(vectors[0], abs=1e-5)
    assert first.text == pytest.approx(words, abs=1e-5)
    assert video.image == pytest.approx(pooled(vectors[1:]), abs=1e-5)
    assert alone.image == pytest.approx(vectors[3], abs=1e-5)
    assert alone.text is None
    assert same.content == first.content
    assert len({first.content, second.content, video.content, alone.content}) == 4


def test_nothing_is_handed_over_that_nobody_asked_for(settings: Settings) -> None:
    with InProcessRunner(settings, ["clipscore"]) as runner:
        assert {each.member for each in runner.score(ROWS)} == {None}
        assert runner.facts.set_encoder == ""


def test_scorers_without_two_towers_make_no_set(settings: Settings) -> None:
    with pytest.raises(UnknownScorerError, match="images and texts into one space"):
        InProcessRunner(settings, ["qualiclip", "integrity"], makes_members=True).__enter__()
