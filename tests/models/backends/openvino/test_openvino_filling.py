"""Batches of texts and pairs are filled up to few sizes, and what fills them never comes back."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from plumbline_models.backends import Backend
from plumbline_models.backends.buckets import bucket_of
from plumbline_models.backends.openvino.engine import NUM_AN_OCTAVE, Filling, fill_rows
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.networks.attribution.graph import AttributionSpec, attribution_graph, vectors_graph
from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.spec import ClipSpec
from tests.models.backends.tiny_graphs import BATCH, TEXT_GRAPH

LARGEST = 64
CAPTIONS, PAIRS = Dim("captions", 1, 4, LARGEST), Dim("pairs", 1, 16, 256)
OF_PAIRS = Graph(
    name="of_pairs",
    inputs=(TensorSpec("ids", "int64", (CAPTIONS, 4)), TensorSpec("rows", "float32", (PAIRS, 3))),
    outputs=("pairs", "captions", "whole"),
    fingerprint="",
    build=lambda: None,
    output_shapes=((PAIRS, 3), (CAPTIONS, 4), (7, 4)),
    fillable=frozenset({"captions", "pairs"}),
)


@pytest.mark.parametrize(
    ("num_rows", "size"), [(1, 1), (7, 7), (8, 8), (9, 10), (10, 10), (13, 14), (17, 20), (33, 40), (57, 64), (64, 64)]
)
def test_a_batch_is_filled_up_to_the_next_size(num_rows: int, size: int) -> None:
    assert bucket_of(num_rows, LARGEST, num_an_octave=NUM_AN_OCTAVE) == size


def test_sizes_are_few_and_little_is_filling() -> None:
    sizes = [bucket_of(num_rows, LARGEST, num_an_octave=NUM_AN_OCTAVE) for num_rows in range(1, LARGEST + 1)]
    assert len(set(sizes)) == 20
    assert max((size - num_rows) / size for num_rows, size in enumerate(sizes, start=1)) <= 7 / 40


@pytest.mark.parametrize(("num_rows", "largest"), [(9, 9), (50, 50), (200, 250)])
def test_no_batch_is_filled_beyond_what_the_graph_takes(num_rows: int, largest: int) -> None:
    assert num_rows <= bucket_of(num_rows, largest, num_an_octave=NUM_AN_OCTAVE) <= largest


@pytest.mark.parametrize("shape", [(9,), (9, 3), (9, 2, 2)])
def test_the_last_row_fills(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    filled = fill_rows(array, LARGEST)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled, np.concatenate([array, array[-1:]]))


def test_each_dimension_is_filled_and_cut_by_itself() -> None:
    filling = Filling(OF_PAIRS)
    ids, rows = filling.fill([np.zeros((9, 4), np.int64), np.zeros((70, 3), np.float32)])
    assert (ids.shape, rows.shape) == ((10, 4), (80, 3))
    assert filling.num_rows({"captions": 9, "pairs": 70}) == [70, 9, None]


def test_nothing_is_filled_where_the_graph_does_not_say_so() -> None:
    filling = Filling(replace(OF_PAIRS, fillable=frozenset(), output_shapes=()))
    arrays: list[Array] = [np.zeros((9, 4), np.int64), np.zeros((70, 3), np.float32)]
    assert all(filled is array for filled, array in zip(filling.fill(arrays), arrays, strict=True))
    assert filling.num_rows({"captions": 9, "pairs": 70}) == [None, None, None]


@pytest.mark.parametrize("num_rows", [1, 9, 33])
def test_the_caller_gets_as_many_rows_as_it_sent(
    openvino_backend: Backend, text_engine: Engine, draw_texts: Callable[[int, int], dict[str, Array]], num_rows: int
) -> None:
    filling = openvino_backend.compile(replace(TEXT_GRAPH, fillable=frozenset({BATCH.name})))
    batch = draw_texts(num_rows, 12)
    found, plain = filling.run(batch), text_engine.run(batch)
    for name, rows in plain.items():
        assert found[name].shape == rows.shape
        assert found[name].flags.owndata
        np.testing.assert_allclose(found[name], rows, rtol=0, atol=1e-5)


def test_texts_and_pairs_may_be_filled_and_images_may_not(tiny_spec: ClipSpec) -> None:
    assert not clip_image_graph(tiny_spec).fillable
    spec = AttributionSpec(tiny_spec, prefix_ids=(49406,), num_blocks=1)
    for graph in (clip_text_graph(tiny_spec), attribution_graph(spec), vectors_graph(spec)):
        leading = {shape[0] for shape in graph.output_shapes}
        assert len(graph.output_shapes) == len(graph.outputs)
        assert {dim.name for dim in leading if isinstance(dim, Dim)} <= graph.fillable
