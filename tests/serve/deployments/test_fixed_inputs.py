"""Encoders of two configurations on fixed inputs: what has to be the same, what may differ, and what is another."""

from dataclasses import replace

import numpy as np
import pytest

from plumbline_models.core.protocols import Encoder, EncoderInfo, Scorer
from plumbline_serve.batching import BatchLimits, LocalCompute
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.deployments.fixed_inputs import Sample, compare, sample
from plumbline_serve.metrics import Instruments
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.settings import Settings

INFO = EncoderInfo(
    key="a/image", kind="image", arch="a", source="a.safetensors", licence="MIT", sha256="0", dim=2, backend="openvino",
    precision="fp32", device="cpu", notes={"resize": "exact"},
)  # fmt: skip
VALUES = [np.array([3.0, 4.0]), np.array([0.0, 1.0])]


def moved(by: float) -> list[np.ndarray]:
    """The values, so far away as a share of their norm."""
    norm = float(np.linalg.norm(np.concatenate(VALUES)))
    return [VALUES[0] + np.array([by * norm, 0.0]), VALUES[1]]


@pytest.mark.parametrize(
    ("info", "values", "outcome"),
    [
        pytest.param(INFO, VALUES, "agrees", id="the same"),
        pytest.param(INFO, moved(0.9e-3), "agrees", id="rounded"),
        pytest.param(INFO, moved(1.1e-3), "differs", id="beyond the bound of fp32"),
        pytest.param(replace(INFO, backend="torch"), moved(1.9e-3), "agrees", id="two backends round twice"),
        pytest.param(replace(INFO, backend="torch"), moved(2.1e-3), "differs", id="and no more"),
        pytest.param(replace(INFO, source="moved.safetensors"), moved(0.1), "differs", id="weights of another name"),
        pytest.param(INFO, [VALUES[0] * np.nan, VALUES[1]], "differs", id="no numbers"),
        pytest.param(INFO, VALUES[:1], "differs", id="another shape"),
        pytest.param(replace(INFO, sha256="1"), moved(0.1), "changed", id="other weights"),
        pytest.param(replace(INFO, precision="bf16"), moved(0.1), "changed", id="another precision"),
        pytest.param(replace(INFO, notes={"resize": "fast"}), moved(0.1), "changed", id="other conventions"),
    ],
)
def test_what_computes_the_same_must_give_the_same(info: EncoderInfo, values: list[np.ndarray], outcome: str) -> None:
    verdicts = compare({"a/image": Sample(INFO, VALUES)}, {"a/image": Sample(info, values)})
    assert {key: verdict.outcome for key, verdict in verdicts.items()} == {"a/image": outcome}


def test_a_lower_precision_rounds_more() -> None:
    info = replace(INFO, precision="bf16")
    before, after = {"a/image": Sample(info, VALUES)}, {"a/image": Sample(info, moved(0.09))}
    assert compare(before, after)["a/image"].outcome == "agrees"


def test_an_encoder_that_was_not_there_is_another() -> None:
    assert compare({}, {"a/image": Sample(INFO, VALUES)})["a/image"].outcome == "changed"


async def samples(scorers: dict[str, Scorer], encoders: list[Encoder]) -> dict[str, Sample]:
    compute = LocalCompute(encoders, BatchLimits(max_queued=64, max_linger_s=0.0), Instruments())
    await compute.start()
    found = await sample(scorers.values(), encoders, compute, RequestContext())
    await compute.close()
    return found


@pytest.fixture
def scorers() -> dict[str, Scorer]:
    sections: dict[str, dict[str, str]] = {"clipscore": {}, "fclipscore": {}, "qualiclip": {}, "integrity": {}}
    return make_scorers(Settings.model_validate({"backend": "fake", "scorers": sections}))


async def test_encoders_of_every_kind_are_sampled_and_give_the_same_once_more(scorers: dict[str, Scorer]) -> None:
    encoders = encoders_of(scorers.values())
    first, second = await samples(scorers, encoders), await samples(scorers, encoders)
    assert first.keys() == {encoder.key for encoder in encoders}
    assert {info.info.kind for info in first.values()} == {"image", "text", "pair"}
    assert {verdict.outcome for verdict in compare(first, second).values()} == {"agrees"}
    assert all(each.size and np.isfinite(each).all() for known in first.values() for each in known.values)
    assert not any(np.array_equal(known.values[0], known.values[1]) for known in first.values())


async def test_pairs_whose_images_another_group_encodes_are_left_out(scorers: dict[str, Scorer]) -> None:
    pair = scorers["fclipscore"].pair
    assert pair is not None
    assert await samples(scorers, [pair]) == {}
