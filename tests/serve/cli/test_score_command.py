"""`plumbline score` as it is typed, in this process, on the embedded encoder."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from plumbline_models.core.errors import ConfigError, UnknownScorerError
from plumbline_serve.cli.main import cli

runner = CliRunner()


@pytest.fixture(autouse=True)
def _on_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The backend that compiles nothing."""
    settings = {"BACKEND": "torch", "PRECISION": "fp32", "CACHE_DIR": str(tmp_path), "SCORERS": '{"clipscore": {}}'}
    for name, value in settings.items():
        monkeypatch.setenv(f"PLUMBLINE_{name}", value)


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def score(*arguments: str | Path) -> Result:
    return runner.invoke(cli, ["score", *map(str, arguments)])


def test_json_has_the_shape_of_the_rest_answer(red: Path) -> None:
    ran = score(red, "--text", "a red circle", "--json")
    assert ran.exit_code == 0
    answer = json.loads(ran.stdout)
    assert answer["request_id"]
    assert set(answer["timing_ms"]) == {"decode", "queue", "compute", "total"}
    [result] = answer["results"]
    assert (result["id"], result["status"]) == (str(red), "ok")
    assert set(result["scores"]["clipscore"]) == {"value", "cosine"}


def test_a_file_that_is_missing_or_broken_fails_alone(red: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    ran = score(red, tmp_path / "missing.png", tmp_path / "broken.png", red, "--text", "a red circle", "--json")
    assert ran.exit_code == 1
    results = json.loads(ran.stdout)["results"]
    assert [result["status"] for result in results] == ["ok", "error", "error", "ok"]
    assert results[1]["error"]["detail"].endswith("missing.png cannot be read.")


def test_people_get_a_table(red: Path) -> None:
    ran = score(red, "--text", "a red circle")
    assert ran.exit_code == 0
    assert "clipscore" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(["--scorers", "clipscore,vibes"], UnknownScorerError, id="unknown scorer"),
        pytest.param(["--config", "nowhere.yaml"], ConfigError, id="no such configuration"),
    ],
)
def test_a_wrong_request_is_refused_as_a_whole(red: Path, arguments: list[str], error: type[Exception]) -> None:
    assert isinstance(score(red, "--text", "a", *arguments).exception, error)  # `main` says it and exits with 2


@pytest.mark.parametrize("arguments", [[], ["red.png", "--nonsense"]], ids=["no image", "unknown option"])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert score(*arguments).exit_code == 2
