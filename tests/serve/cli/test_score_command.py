"""`plumbline score` as it is typed, in this process, on the embedded encoder."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from plumbline_models.core.errors import (
    ConfigError,
    ImageUndecodableError,
    InvalidFieldError,
    MalformedRequestError,
    PlumblineError,
    UnknownScorerError,
)
from plumbline_serve.cli.main import cli
from tests.programs import children

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


def test_questions_of_a_file_are_asked_about_every_image(red: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PLUMBLINE_SCORERS", '{"questions": {}}')
    monkeypatch.setenv("PLUMBLINE_LIMITS__MAX_QUESTIONS", "2")  # so that each image goes by itself
    file = tmp_path / "asked.json"
    file.write_text('["a red square", {"text": "two blue stars", "expect": "no", "tag": "count"}]', encoding="utf-8")
    ran = score(red, red, "--questions", file, "--json")
    assert ran.exit_code == 0
    for result in json.loads(ran.stdout)["results"]:
        asked = result["scores"]["questions"]
        first, second = asked["answers"]
        assert (first["score"], second["score"]) == (first["p_yes"], second["p_no"])
        assert asked["value"] == asked["mean"] == pytest.approx((first["score"] + second["score"]) / 2)
        assert set(asked["rates"]) == {"count"}


def test_images_are_compared_with_captions_phrases_and_an_image(red: Path, tmp_path: Path, monkeypatch) -> None:
    names = ["refclipscore", "phrase_clipscore", "image_similarity"]
    monkeypatch.setenv("PLUMBLINE_SCORERS", json.dumps({name: {} for name in names}))
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    text = ("--text", "a red circle", "--reference", "a fox", "--reference", "a red circle", "--phrase", "a circle")
    ran = score(red, tmp_path / "blue.png", *text, "--reference-image", red, "--json")
    assert ran.exit_code == 0
    first, second = (result["scores"] for result in json.loads(ran.stdout)["results"])
    assert first["refclipscore"]["reference_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert [phrase["text"] for phrase in second["phrase_clipscore"]["phrases"]] == ["a circle"]
    assert first["image_similarity"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert second["image_similarity"]["value"] < 1 - 1e-6


REWARD = {"reward": {"method": "sum", "terms": [{"scorer": "integrity", "weight": 2, "min": 0, "max": 2}]}}


@pytest.mark.parametrize("is_file", [False, True])
def test_scores_are_combined_as_rest_combines_them(red: Path, tmp_path: Path, monkeypatch, is_file: bool) -> None:
    monkeypatch.setenv("PLUMBLINE_SCORERS", '{"clipscore": {}, "integrity": {}}')
    given = tmp_path / "reward.json"
    given.write_text(json.dumps(REWARD), encoding="utf-8")
    ran = score(
        red, "--text", "a", "--scorers", "clipscore", "--combine", given if is_file else json.dumps(REWARD), "--json"
    )
    assert ran.exit_code == 0, ran.exception
    scores = json.loads(ran.stdout)["results"][0]["scores"]
    assert set(scores) == {"clipscore", "integrity", "reward"}
    assert scores["reward"]["value"] == pytest.approx(scores["integrity"]["value"])


COMBINED_WRONGLY = [
    pytest.param("{", MalformedRequestError, id="no JSON"),
    pytest.param('{"reward": {"method": "product", "terms": []}}', InvalidFieldError, id="no combination"),
    pytest.param(json.dumps(REWARD).replace("integrity", "vibes"), UnknownScorerError, id="of an unknown scorer"),
    pytest.param("none.json", FileNotFoundError, id="no file"),
]


@pytest.mark.parametrize(("combine", "error"), COMBINED_WRONGLY)
def test_what_cannot_be_combined_is_said(red: Path, combine: str, error: type[Exception]) -> None:
    assert isinstance(score(red, "--text", "a", "--combine", combine).exception, error)


def test_a_reference_image_that_cannot_be_read_is_said(red: Path, tmp_path: Path) -> None:
    ran = score(red, "--reference-image", tmp_path / "none.png")
    assert isinstance(ran.exception, ImageUndecodableError)


def test_questions_that_cannot_be_had_are_said(red: Path, tmp_path: Path) -> None:
    file = tmp_path / "asked.json"
    file.write_text('[{"prompt": "a fox", "questions": ["Is there a fox?"]}] ', encoding="utf-8")
    ran = score(red, "--questions", file, "--text", "a wolf")
    assert isinstance(ran.exception, InvalidFieldError)
    assert isinstance(score(red, "--questions", tmp_path / "none.json").exception, FileNotFoundError)


def test_a_file_that_is_missing_or_broken_fails_alone(red: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    ran = score(red, tmp_path / "missing.png", tmp_path / "broken.png", red, "--text", "a red circle", "--json")
    assert ran.exit_code == 1
    results = json.loads(ran.stdout)["results"]
    assert [result["status"] for result in results] == ["ok", "error", "error", "ok"]
    assert results[1]["error"]["detail"].endswith("missing.png cannot be read: No such file or directory.")


def test_formats_that_are_decoded_beside_are_scored_alike_and_leave_no_process(red: Path, tmp_path: Path) -> None:
    others = [tmp_path / f"red.{kind}" for kind in ("bmp", "gif", "tiff")]
    for path in others:
        Image.open(red).save(path)
    ran = score(red, *others, "--text", "a red circle", "--json")
    assert ran.exit_code == 0
    values = [result["scores"]["clipscore"]["value"] for result in json.loads(ran.stdout)["results"]]
    assert values == values[:1] * 4
    assert not children("decoder_process")


def test_any_name_that_a_file_can_have_is_scored_and_named(red: Path, tmp_path: Path) -> None:
    names = [b"bad\xff.png", b"two\nlines.png", b"[red]x.png", "n\u00e4.png".encode()]
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for path in paths:
        path.write_bytes(red.read_bytes())
    ran = score(*paths, "--text", "a red circle", "--json")
    assert ran.exit_code == 0
    ids = [result["id"].removeprefix(f"{tmp_path}/") for result in json.loads(ran.stdout_bytes)["results"]]
    assert ids == ["bad\\xff.png", "two\nlines.png", "[red]x.png", "n\u00e4.png"]
    arguments = ["score", *map(str, paths), "--text", "a red circle"]
    table = runner.invoke(cli, arguments, env={"COLUMNS": "300"}).stdout
    for shown in ("bad\\xff.png", "two\\nlines.png", "[red]x.png", "n\u00e4.png"):
        assert shown in table


def test_what_is_no_file_with_an_image_fails_alone_and_is_not_waited_for(red: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe")
    paths = [red, tmp_path / "folder", tmp_path / "empty.png", tmp_path / "pipe", Path("/dev/zero"), red]
    ran = score(*paths, "--text", "a red circle", "--json")
    assert ran.exit_code == 1
    results = json.loads(ran.stdout_bytes)["results"]
    assert [result["status"] for result in results] == ["ok", *["error"] * 4, "ok"]
    reasons = ["folder cannot be read: Is a directory.", "is empty.", "is empty.", "cannot be read: Is a device."]
    for result, reason in zip(results[1:5], reasons, strict=True):
        assert result["error"]["detail"].endswith(reason)


def test_where_no_file_can_be_read_the_answer_has_its_shape_all_the_same(tmp_path: Path) -> None:
    answer = json.loads(score(tmp_path / "missing.png", "--json").stdout_bytes)
    assert answer["timing_ms"] == {"decode": 0.0, "queue": 0.0, "compute": 0.0, "total": 0.0}


def test_where_no_file_can_be_read_nothing_is_loaded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PLUMBLINE_BACKEND", "openvino")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "engines"))
    ran = score(tmp_path / "photoo.jpg", "--text", "a")
    assert ran.exit_code == 1
    assert "photoo.jpg" in ran.stdout
    assert not list(tmp_path.rglob("*.bin"))  # no engine was compiled for it
    assert not (tmp_path / "engines").exists()


def test_a_file_above_the_limit_is_refused_as_the_service_refuses_it(red: Path, monkeypatch) -> None:
    monkeypatch.setenv("PLUMBLINE_LIMITS__MAX_IMAGE_BYTES", str(len(red.read_bytes()) - 1))
    [result] = json.loads(score(red, "--text", "a", "--json").stdout_bytes)["results"]
    assert result["error"]["code"] == "image_too_large"


def test_a_text_is_utf_8(red: Path) -> None:
    ran = score(red, "--text", os.fsdecode(b"caf\xe9"))
    assert isinstance(ran.exception, MalformedRequestError)


def test_an_empty_server_is_not_this_process(red: Path) -> None:
    ran = score(red, "--text", "a", "--server", "")
    assert isinstance(ran.exception, PlumblineError)
    assert "base URL" in str(ran.exception)


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
