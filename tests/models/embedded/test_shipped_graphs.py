"""The exported graphs that come with the embedded weights: of the sources of today, small, and right."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.backends.agreement import draw_inputs, fixed_sizes
from plumbline_models.backends.export.shipping import ship
from plumbline_models.backends.shipped import open_shipped, shipped_key
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import read_facts, seal
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph, ShippedForm
from plumbline_training.export_embedded import embedded_graphs
from tests.models.backends.tiny_graphs import LIFT_GRAPH, build_lift, unbuildable

ROWS = {"rows": np.ones((2, 4), np.float32)}
MAX_BYTES = 2**20
"""All of them, beside 14.1 MiB of weights."""


@pytest.fixture(scope="module")
def graphs() -> Sequence[Graph]:
    return embedded_graphs()


def test_every_embedded_graph_ships_as_its_sources_of_today_export_it(graphs: Sequence[Graph]) -> None:
    assert [graph.name for graph in graphs] == NAMES
    stale = [
        graph.name
        for graph in graphs
        if graph.shipped is None
        or not graph.shipped.folder.is_dir()
        or read_facts(graph.shipped.folder) != shipped_key(graph).facts
    ]
    assert stale == [], "run: python -m plumbline_training.export_embedded"


NAMES = [
    *("clip_text", "clip_image", "clip_text_attribution", "clip_text_vectors"),
    *("flant5_image", "flant5_score", "qualiclip"),
]


def test_they_are_small(graphs: Sequence[Graph]) -> None:
    folders = [graph.shipped.folder for graph in graphs if graph.shipped is not None]
    assert 0 < sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < MAX_BYTES


def test_openvino_compiles_them_once_and_never_with_torch(graphs: Sequence[Graph], tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    tuning = Tuning(tmp_path, num_threads=1, on_fallback=lambda *facts: told.append(facts))
    backend = open_backend("openvino", precision="fp32", tuning=tuning)
    for graph in map(unbuildable, graphs):
        first, again = backend.compile(graph), backend.compile(graph)
        batch = draw_inputs(graph, fixed_sizes(graph, num_inputs=3))
        for name, array in first.run(batch).items():
            np.testing.assert_array_equal(array, again.run(batch)[name])
    assert told == []  # each was compared with what torch gave when it was exported
    assert {entry.name for entry in tmp_path.glob("engines/*/*")} == {
        *("manifest.json", "engine.blob", "references.safetensors")
    }


def test_without_a_place_to_write_they_run_from_memory(graphs: Sequence[Graph], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tuning = Tuning(tmp_path / "file", num_threads=1)
    engine = open_backend("openvino", precision="fp32", tuning=tuning).compile(unbuildable(graphs[0]))
    assert engine.info.backend == "openvino"


def test_a_compiled_form_that_computes_something_else_is_made_anew(shipped: Graph, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    tuning = Tuning(tmp_path, num_threads=1, on_fallback=lambda *facts: told.append(facts))
    backend = open_backend("openvino", precision="fp32", tuning=tuning)
    right = backend.compile(unbuildable(shipped)).run(ROWS)["lifted"]
    [entry] = (path for path in (tmp_path / "engines").iterdir() if path.is_dir())
    blob, weights = bytearray((entry / "engine.blob").read_bytes()), lift_weights()["bias"].tobytes()
    at = blob.index(weights)
    blob[at : at + len(weights)] = (lift_weights()["bias"] + np.float32(0.5)).tobytes()
    (entry / "engine.blob").write_bytes(blob)
    facts = read_facts(entry)
    (entry / "manifest.json").unlink()
    seal(entry, EngineKey(facts))
    np.testing.assert_array_equal(backend.compile(unbuildable(shipped)).run(ROWS)["lifted"], right)
    assert told == [("tiny_lift", "openvino")]


def lift_weights() -> Mapping[str, Array]:
    module = build_lift()
    return {"weight": module.weight.detach().numpy().T.copy(), "bias": module.bias.detach().numpy()}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A tiny graph whose checkpoint holds its weight the other way round."""
    folder = tmp_path_factory.mktemp("graphs")
    graph = replace(LIFT_GRAPH, shipped=ShippedForm(folder, lift_weights))
    ship(graph, folder)
    return graph


def test_weights_are_bound_to_the_tensors_that_they_lie_in(shipped: Graph, tmp_path: Path) -> None:
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(tmp_path, num_threads=1))
    weights = lift_weights()
    expected = ROWS["rows"] @ weights["weight"] + weights["bias"]
    np.testing.assert_allclose(backend.compile(unbuildable(shipped)).run(ROWS)["lifted"], expected, rtol=1e-5)


def test_a_form_of_other_sources_is_passed_over_and_torch_exports(
    shipped: Graph, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = replace(shipped, fingerprint="0" * 64)
    assert open_shipped(other) is None
    assert "torch exports it: its manifest belongs to another engine" in caplog.text
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(tmp_path, num_threads=1))
    assert backend.compile(other).info.backend == "openvino"
    assert "Exporting the graph tiny_lift" in caplog.text


def test_a_form_that_gives_wrong_numbers_is_refused_and_torch_exports(
    shipped: Graph, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []

    def spoiled() -> Mapping[str, Array]:
        return {name: array * np.float32(1.01) for name, array in lift_weights().items()}

    assert shipped.shipped is not None
    wrong = replace(shipped, shipped=replace(shipped.shipped, read_weights=spoiled))
    tuning = Tuning(tmp_path, num_threads=1, on_fallback=lambda *facts: told.append(facts))
    engine = open_backend("openvino", precision="fp32", tuning=tuning).compile(wrong)
    right = open_backend("openvino", precision="fp32", tuning=tuning).compile(unbuildable(shipped))
    np.testing.assert_allclose(engine.run(ROWS)["lifted"], right.run(ROWS)["lifted"], rtol=1e-6)
    assert told == [("tiny_lift", "openvino")]
    assert "it was made anew" in caplog.text


def test_weights_that_are_in_no_tensor_do_not_ship(shipped: Graph, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("plumbline_models.backends.export.shipping.MAX_REST_BYTES", 0)
    assert shipped.shipped is not None
    without = replace(shipped, shipped=ShippedForm(tmp_path, dict))
    with pytest.raises(EngineError, match="holds weights that are no part of its checkpoint's tensors"):
        ship(without, tmp_path)
