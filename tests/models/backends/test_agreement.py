import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends.agreement import (
    NUM_INPUTS,
    References,
    WrongNumbersError,
    check_agreement,
    draw_inputs,
    fixed_sizes,
    num_when_built,
    num_when_loaded,
    sample_rows,
)
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine, EngineInfo
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, LIFT_GRAPH, TEXT_GRAPH, VOCABULARY

PAIRS, CAPTIONS = Dim("pairs", 1, 8, 64), Dim("captions", 1, 4, 16)
PAIR_GRAPH = Graph(
    name="pairs",
    inputs=(
        TensorSpec("token_ids", "int64", (CAPTIONS, 7), num_ids=VOCABULARY),
        TensorSpec("caption_indices", "int64", (PAIRS,)),
        TensorSpec("images", "float32", (PAIRS, 12)),
    ),
    outputs=("scores",),
    fingerprint="",
    build=dict,
    output_shapes=((PAIRS,),),
)


class Altered:
    """An engine's outputs, changed on their way."""

    def __init__(self, engine: Engine, *, by: float, precision: str = "fp32") -> None:
        self._engine = engine
        self._by = np.float32(by)
        self.info: EngineInfo = replace(engine.info, precision=precision)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return {name: array + self._by * np.abs(array) for name, array in self._engine.run(inputs).items()}


@pytest.fixture(scope="module")
def references(lift_engine: Engine) -> References:
    sizes = fixed_sizes(LIFT_GRAPH, num_inputs=NUM_INPUTS)
    return References.of(lift_engine.run(draw_inputs(LIFT_GRAPH, sizes)), sizes)


@pytest.mark.parametrize("graph", [IMAGE_GRAPH, TEXT_GRAPH, LIFT_GRAPH, PAIR_GRAPH], ids=lambda graph: graph.name)
def test_a_few_inputs_are_the_first_of_many(graph: Graph) -> None:
    sizes = fixed_sizes(graph, num_inputs=NUM_INPUTS)
    many, few = draw_inputs(graph, sizes), draw_inputs(graph, sizes, num_inputs=2)
    assert {len(few[spec.name]) for spec in graph.inputs if spec.shape[0] != CAPTIONS} == {2}
    for name, array in few.items():
        np.testing.assert_array_equal(array, many[name][: len(array)])


def test_inputs_are_those_that_references_were_stored_for() -> None:
    drawn = draw_inputs(IMAGE_GRAPH, fixed_sizes(IMAGE_GRAPH, num_inputs=NUM_INPUTS))
    assert hashlib.sha256(drawn["pixels"].tobytes()).hexdigest()[:16] == "0f83fc7f9e10905d"
    assert drawn["pixels"].shape == (NUM_INPUTS, 32, 32, 3)


def test_images_have_noise_of_several_grains() -> None:
    images = draw_inputs(IMAGE_GRAPH, fixed_sizes(IMAGE_GRAPH, num_inputs=NUM_INPUTS))["pixels"].astype(int)
    changes = [np.count_nonzero(np.diff(image, axis=1)) for image in images[:5]]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 20 * changes[-1] > 0


def test_ids_are_of_the_whole_vocabulary_and_what_counts_is_zero_or_one() -> None:
    drawn = draw_inputs(PAIR_GRAPH, fixed_sizes(PAIR_GRAPH, num_inputs=NUM_INPUTS))
    assert drawn["token_ids"].shape == (4, 7)
    assert len(set(drawn["token_ids"].ravel().tolist())) > 20
    assert 0 <= drawn["token_ids"].min() <= drawn["token_ids"].max() < VOCABULARY
    assert set(drawn["caption_indices"].tolist()) == {0, 1}
    np.testing.assert_allclose(np.linalg.norm(drawn["images"], axis=1), 1, rtol=1e-6)


def test_references_are_read_back_as_they_were_written(references: References, tmp_path: Path) -> None:
    references.write(tmp_path)
    found = References.read(tmp_path)
    assert found.sizes == references.sizes
    np.testing.assert_array_equal(found.outputs["lifted"], references.outputs["lifted"])


def test_of_large_outputs_some_numbers_of_each_row_are_kept() -> None:
    large = np.arange(3 * 100 * 128, dtype=np.float32).reshape(3, 100, 128)
    kept = sample_rows(large)
    assert kept.shape[0] == 3
    assert 200 <= kept.shape[1] <= 256
    assert len({int(value) % 128 for value in kept[0]}) == 128  # of every channel
    assert sample_rows(large[:, 0]).shape == (3, 128)


@pytest.mark.parametrize("num_inputs", [2, NUM_INPUTS])
def test_an_engine_that_agrees_is_measured(lift_engine: Engine, references: References, num_inputs: int) -> None:
    assert check_agreement(lift_engine, LIFT_GRAPH, references, num_inputs=num_inputs)["lifted"] < 1e-6


@pytest.mark.parametrize(
    ("by", "precision", "is_refused"),
    [
        pytest.param(5e-4, "fp32", False, id="rounding"),
        pytest.param(2e-3, "fp32", True, id="more than fp32 rounds"),
        pytest.param(2e-3, "fp16", False, id="what fp16 rounds"),
        pytest.param(0.05, "bf16", False, id="what bf16 rounds"),
        pytest.param(0.2, "bf16", True, id="more than bf16 rounds"),
        pytest.param(float("nan"), "bf16", True, id="no number"),
    ],
)
def test_an_engine_may_be_as_far_off_as_its_precision_rounds(
    lift_engine: Engine, references: References, by: float, precision: str, is_refused: bool
) -> None:
    engine = Altered(lift_engine, by=by, precision=precision)
    if is_refused:
        with pytest.raises(WrongNumbersError, match="tiny_lift does not give what torch gives"):
            check_agreement(engine, LIFT_GRAPH, references)
    else:
        check_agreement(engine, LIFT_GRAPH, references)


def test_large_graphs_are_compared_on_fewer_inputs() -> None:
    assert (num_when_built(100 * 2**20), num_when_built(2**30)) == (16, 2)
    assert (num_when_loaded(40 * 2**20), num_when_loaded(351 * 2**20)) == (16, 2)
