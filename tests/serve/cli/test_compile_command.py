"""`plumbline compile` as it is typed, and that what it made is used without building."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from loadtests.goldens.clips import build_tiny
from plumbline_models.core.errors import ConfigError
from plumbline_serve.cli.main import cli
from plumbline_serve.configured_scorers import encoders_of, make_scorers, wanted_graphs
from plumbline_serve.settings import load_settings
from tests.results import succeeded

runner = CliRunner()


@pytest.fixture(autouse=True)
def _one_scorer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {"CACHE_DIR": str(tmp_path / "cache"), "SCORERS": '{"clipscore": {}}'}
    for name, value in settings.items():
        monkeypatch.setenv(f"PLUMBLINE_{name}", value)


def compile_engines(*arguments: str | Path) -> Result:
    return runner.invoke(cli, ["compile", *map(str, arguments)])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of engines for OpenVINO, made by the command."""
    folder = tmp_path_factory.mktemp("shipped")
    environment = {"PLUMBLINE_SCORERS": '{"clipscore": {}}', "COLUMNS": "160"}
    arguments = ["compile", "--backend", "openvino", "--precision", "fp32", "--out", str(folder)]
    ran = runner.invoke(cli, arguments, env=environment)
    assert ran.exit_code == 0
    words = ("clip_image", "clip_text", "pixels [batch=1..64, 96, 96, 3]", "inside", "openvino engines for any devices")
    for word in words:
        assert word in ran.output
    return folder


def test_the_report_says_what_lies_where(shipped: Path) -> None:
    ran = compile_engines("--backend", "openvino", "--precision", "fp32", "--out", shipped, "--json")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)
    assert report["failed"] == []
    assert [engine["graph"] for engine in report["engines"]] == ["clip_image", "clip_text"]
    for engine in report["engines"]:
        assert (engine["backend"], engine["precision"], engine["was_found"]) == ("openvino", "fp32", True)
        assert engine["num_layers"] > 20
        assert engine["num_bytes"] == sum(path.stat().st_size for path in Path(engine["folder"]).iterdir())


def test_a_shipped_folder_is_readable_by_everyone(shipped: Path) -> None:
    for path in shipped.rglob("*"):
        if path.suffix != ".lock":
            assert path.stat().st_mode & stat.S_IROTH, path


def test_weights_can_lie_beside_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    section = {"checkpoint": str(build_tiny(tmp_path / "tiny"))}
    monkeypatch.setenv("PLUMBLINE_SCORERS", json.dumps({"clipscore": section}))
    wanted = ("--backend", "tensorrt-rtx", "--precision", "fp16", "--strip-weights", "--out", tmp_path / "out")
    assert compile_engines(*wanted).exit_code == 0
    again = compile_engines(*wanted, "--json")
    for engine in json.loads(again.stdout)["engines"]:
        weights = Path(engine["weights_folder"])
        assert engine["was_found"]
        assert engine["num_weight_bytes"] == sum(path.stat().st_size for path in weights.iterdir())
        for path in (weights, *weights.iterdir(), *Path(engine["folder"]).iterdir()):
            assert path.stat().st_mode & stat.S_IROTH, path
    assert "beside" in compile_engines(*wanted).stdout


def test_shipped_engines_are_run_without_building(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_ENGINES__DIR", str(shipped))
    settings = load_settings(None, {"backend": "openvino", "precision": "fp32"})
    scorers = make_scorers(settings)
    for encoder in encoders_of(scorers.values()):
        encoder.load()
    assert not (tmp_path / "cache").exists()  # nothing was built, or it would have been kept there
    [image] = [encoder for encoder in encoders_of(scorers.values()) if encoder.kind == "image"]
    [row] = succeeded(image.encode([image.preprocess(np.zeros((96, 96, 3), np.uint8))]))
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


def test_attributions_are_wanted_in_float32_whatever_the_rest_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_SCORERS", '{"clipscore": {}, "fclipscore": {}}')
    assert [(graph.name, precision) for graph, precision in wanted_graphs(load_settings(), "tensorrt", "fp16")] == [
        ("clip_image", "fp16"),
        ("clip_text", "fp16"),
        ("clip_text_attribution", "fp32"),
        ("clip_text_vectors", "fp32"),
    ]


def test_a_folder_that_cannot_be_written_fails_every_graph(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = compile_engines("--backend", "openvino", "--precision", "fp32", "--out", tmp_path / "file", "--json")
    assert ran.exit_code == 1
    failed = json.loads(ran.stdout)["failed"]
    assert [each["graph"] for each in failed] == ["clip_image", "clip_text"]
    assert "cannot be written" in failed[0]["detail"]


@pytest.mark.parametrize(
    ("backend", "error", "word"),
    [
        pytest.param("torch", ConfigError, "compiles nothing", id="nothing to compile"),
        pytest.param("tensorflow", ConfigError, "no backend called tensorflow", id="no such backend"),
    ],
)
def test_what_cannot_compile_is_refused(backend: str, error: type[Exception], word: str) -> None:
    ran = compile_engines("--backend", backend)
    assert isinstance(ran.exception, error)
    assert word in str(ran.exception)
