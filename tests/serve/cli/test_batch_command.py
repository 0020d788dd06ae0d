"""`plumbline batch` as it is typed, in this process, on the embedded encoder."""

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner, Result

from plumbline_client import Image, Item
from plumbline_models.core.errors import (
    InvalidFieldError,
    PlumblineError,
    StoreUnavailableError,
    UnknownArtefactError,
    UnknownScorerError,
)
from plumbline_serve.cli.main import cli
from plumbline_serve.local import Plumbline
from plumbline_serve.offline.outputs import open_scored
from plumbline_serve.offline.shards import ShardFolder
from tests.serve.offline.test_videos import write_video

runner = CliRunner()


@pytest.fixture(autouse=True)
def _on_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The backend that compiles nothing."""
    scorers, store = '{"clipscore": {}, "fclipscore": {}}', f"sqlite:///{tmp_path / 'store.db'}"
    settings = {"BACKEND": "torch", "PRECISION": "fp32", "CACHE_DIR": str(tmp_path / "cache"), "SCORERS": scorers}
    settings["STORE"] = store
    for name, value in settings.items():
        monkeypatch.setenv(f"PLUMBLINE_{name}", value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Plain images with captions beside them, and one that is none."""
    path = tmp_path / "images"
    path.mkdir()
    for colour in ("red", "blue", "green", "white"):
        PillowImage.new("RGB", (64, 64), colour).save(path / f"{colour}.png")
        (path / f"{colour}.txt").write_text("a red square", encoding="utf-8")
    (path / "broken.png").write_bytes(b"no image")
    (path / "broken.txt").write_text("a star", encoding="utf-8")
    return path


def batch(*arguments: str | Path) -> Result:
    return runner.invoke(cli, ["batch", *map(str, arguments)])


def test_scores_are_those_of_the_score_command(folder: Path, tmp_path: Path) -> None:
    ran = batch(folder, "-o", tmp_path / "out.parquet", "--report", tmp_path / "report.html")
    assert ran.exit_code == 1
    assert "4 rows in" in ran.stderr
    assert "1 row failed" in ran.stderr
    assert "Problems: image_undecodable 1\n" in ran.stderr
    lines = {line["image"]: line for line in open_scored(tmp_path / "out.parquet").lines()}
    images = [folder / name for name in sorted(lines)]
    alone = runner.invoke(cli, ["score", *map(str, images), "--text", "a red square", "--json"])
    for result in json.loads(alone.stdout)["results"]:
        line = lines[Path(result["id"]).name]
        assert line["clipscore"] == pytest.approx(result["scores"]["clipscore"]["value"], abs=1e-6)
        assert [word["text"] for word in line["fclipscore.words"]] == ["a", "red", "square"]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") > 4
    assert "image_undecodable" in html


def test_only_the_scorers_that_are_asked_for_run(folder: Path, tmp_path: Path) -> None:
    assert batch(folder, "-o", tmp_path / "out.jsonl", "--scorers", "clipscore").exit_code == 1
    assert list(open_scored(tmp_path / "out.jsonl").facts.scorers) == ["clipscore"]


def test_a_run_that_is_whole_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").unlink()
    arguments = (folder, "-o", tmp_path / "out.csv", "--scorers", "clipscore")
    assert batch(*arguments).exit_code == 0
    before = (tmp_path / "out.csv").read_bytes()
    assert batch(*arguments, "--resume").exit_code == 0
    assert (tmp_path / "out.csv").read_bytes() == before
    assert isinstance(batch(*arguments).exception, InvalidFieldError)


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl"])
def test_questions_of_a_file_are_asked(folder: Path, tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv("PLUMBLINE_SCORERS", '{"questions": {}}')
    (folder / "broken.png").unlink()
    asked = {"prompt": "a red square", "questions": [{"text": "a red square", "tag": "colour"}, "a star"]}
    (tmp_path / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    report = tmp_path / "report.html"
    ran = batch(folder, "-o", tmp_path / name, "--questions", tmp_path / "asked.json", "--report", report)
    assert ran.exit_code == 0, ran.output
    rates = []
    for line in open_scored(tmp_path / name).lines():
        assert len(line["questions.answers"]) == 2
        assert set(line["questions.rates"]) == {"colour"}
        rates.append(line["questions.rates"]["colour"])
    share = f"{1 - sum(rates) / 4:.1%}"
    assert f"<td>colour</td><td>4</td><td>{share}</td><td>{share}</td>" in report.read_text(encoding="utf-8")
    assert "tag of questions" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(["--scorers", "vibes"], UnknownScorerError, id="unknown scorer"),
        pytest.param(["--server", "localhost:9000", "--ray"], InvalidFieldError, id="two places"),
    ],
)
def test_a_wrong_run_is_refused(folder: Path, tmp_path: Path, arguments: list[str], error: type[Exception]) -> None:
    assert isinstance(batch(folder, "-o", tmp_path / "out", *arguments).exception, error)


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert isinstance(batch(tmp_path / "none.csv", "-o", tmp_path / "out").exception, InvalidFieldError)


def test_a_video_is_scored_by_its_frames(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    path = write_video(folder / "a.mp4")
    (folder / "a.txt").write_text("a grey square", encoding="utf-8")
    (folder / "b.mp4").write_bytes(path.read_bytes()[:200])
    options = ("--scorers", "clipscore", "--frames", "3", "--pool", "min")
    ran = batch(folder, "-o", tmp_path / "out.parquet", *options, "--report", tmp_path / "report.html")
    assert ran.exit_code == 1, ran.output
    [line] = open_scored(tmp_path / "out.parquet").lines()
    assert (line["image"], line["text"], len(line["clipscore.frames"])) == ("a.mp4", "a grey square", 3)
    assert line["clipscore"] == min(line["clipscore.frames"]) == line["clipscore.frames"][line["clipscore.worst_frame"]]
    assert "1 row failed" in ran.stderr


def test_the_score_command_takes_the_files_as_frames_of_one_video(folder: Path, tmp_path: Path) -> None:
    images = [str(folder / f"{colour}.png") for colour in ("red", "blue", "green")]
    options = ("--text", "a red square", "--scorers", "clipscore", "--json")
    one = json.loads(runner.invoke(cli, ["score", *images, *options, "--frames", "--pool", "min"]).stdout)
    each = json.loads(runner.invoke(cli, ["score", *images, *options]).stdout)
    [result] = one["results"]
    values = [found["scores"]["clipscore"]["value"] for found in each["results"]]
    assert result["id"] == images[0]
    assert result["scores"]["clipscore"]["frames"]["values"] == pytest.approx(values, abs=1e-6)
    assert result["scores"]["clipscore"]["value"] == pytest.approx(min(values), abs=1e-6)
    ran = runner.invoke(cli, ["score", *images, str(folder / "broken.png"), *options, "--frames"])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["results"][0]["error"]["code"] == "image_undecodable"
    ran = runner.invoke(cli, ["score", *images, str(folder / "none.png"), *options, "--frames"])
    assert "none.png" in json.loads(ran.stdout)["results"][0]["error"]["detail"]
    assert isinstance(runner.invoke(cli, ["score", *images, *options, "--pool", "min"]).exception, InvalidFieldError)


def test_all_images_are_measured_as_one_set_and_by_a_column(folder: Path, tmp_path: Path) -> None:
    rows = [{"image": f"{name}.png", "text": f"a {name} square", "model": name[0]} for name in ("red", "blue", "black")]
    PillowImage.new("RGB", (64, 64), "black").save(folder / "black.png")
    rows += [rows[0] | {"model": "r"}, {"image": "broken.png", "text": "a star", "model": "b"}]
    table = folder / "rows.jsonl"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    options = ("--set", "--set-by", "model", "--near-duplicate", "0.9999", "--report", tmp_path / "report.html")
    ran = batch(table, "-o", tmp_path / "out.parquet", *options)
    assert (ran.exit_code, type(ran.exception)) == (1, SystemExit), ran.output
    document = json.loads((tmp_path / "out.sets.json").read_text(encoding="utf-8"))
    assert [(each["group"], each["num_images"]) for each in document["sets"]] == [(None, 4), ("r", 2), ("b", 2)]
    whole, red, _ = document["sets"]
    assert whole["duplicates"] == whole["identical"] == red["duplicates"] == [[0, 3]]
    files = [Image.data((folder / row["image"]).read_bytes()) for row in rows[:4]]
    with Plumbline() as client:
        reply = client.diversity(files, texts=[row["text"] for row in rows[:4]], near_duplicate=0.9999)
    assert whole["vendi"] == pytest.approx(dict(reply.vendi), rel=1e-5)
    assert whole["mean_pairwise"] == pytest.approx(reply.mean_pairwise, rel=1e-5)
    assert reply.sce is not None
    assert whole["sce"]["image"] == pytest.approx(reply.sce.image, rel=1e-4)
    assert document["encoder"] == reply.encoder
    assert len(document["weights"]) == 64
    assert "all images" in ran.stdout
    assert "All images together" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--set-by", "model"], id="a column without a question"),
        pytest.param(["--set", "--scorers", "integrity"], id="no encoder"),
    ],
)
def test_a_set_that_cannot_be_measured_is_refused(folder: Path, tmp_path: Path, monkeypatch, arguments) -> None:
    monkeypatch.setenv("PLUMBLINE_SCORERS", '{"clipscore": {}, "integrity": {}}')
    ran = batch(folder, "-o", tmp_path / "out.parquet", *arguments)
    assert isinstance(ran.exception, PlumblineError)
    assert not (tmp_path / "out.parquet").exists()


def test_a_whole_output_without_a_set_is_not_given_one(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").unlink()
    arguments = (folder, "-o", tmp_path / "out.jsonl", "--scorers", "clipscore")
    assert batch(*arguments).exit_code == 0
    ran = batch(*arguments, "--resume", "--set")
    assert isinstance(ran.exception, InvalidFieldError)
    assert "that of another set" in ran.exception.detail


def test_other_files_or_options_are_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("a", "b"):
        image = {"bytes": (folder / "red.png").read_bytes(), "path": None}
        pq.write_table(pa.table({"image": [image], "text": [name]}), tables / f"{name}.parquet")
    asked = tmp_path / "asked.json"
    asked.write_text('["Is it red?"]', encoding="utf-8")
    for output in (tmp_path / "out", tmp_path / "out.jsonl"):
        arguments = (tables, "-o", output, "--scorers", "clipscore", "--questions", asked, "--resume")
        assert batch(*arguments).exit_code == 0
        for changed in (asked, tables / "b.parquet"):
            times = changed.stat()
            os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns + 1000))
            ran = batch(*arguments)
            assert isinstance(ran.exception, InvalidFieldError)
            os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert batch(*arguments).exit_code == 0


@pytest.mark.parametrize("name", ["images/out.parquet", "images", "images/out"])
def test_an_output_within_its_input_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    ran = batch(folder, "-o", tmp_path / name)
    assert isinstance(ran.exception, InvalidFieldError)
    assert "lies in the folder that is read" in ran.exception.detail


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_is_broken_off_says_how_to_go_on(folder: Path, tmp_path: Path, monkeypatch, error) -> None:
    """Exit status 1 is of rows that failed."""

    def write(*_: object) -> None:
        raise error

    monkeypatch.setattr(ShardFolder, "write", write)
    ran = batch(folder, "-o", tmp_path / "out.parquet", "--scorers", "clipscore")
    said = ran.exception.detail if isinstance(ran.exception, PlumblineError) else ran.stderr
    assert "What was scored is kept: --resume goes on with it." in said
    assert ran.exit_code != 0
    assert isinstance(ran.exception, PlumblineError | SystemExit)


@pytest.mark.parametrize("report", ["none/report.html", "images"])
def test_a_page_that_cannot_be_written_is_said_before_anything_is_scored(
    folder: Path, tmp_path: Path, report: str
) -> None:
    ran = batch(folder, "-o", tmp_path / "out.parquet", "--report", tmp_path / report)
    assert isinstance(ran.exception, InvalidFieldError)
    assert not (tmp_path / "out.parquet.parts").exists()


@pytest.fixture
def classifier(folder: Path) -> str:
    """One that was made of the colours of images and is kept in the store of the settings."""
    for number in range(2):
        for colour, grey in (("red", 0), ("blue", 0), ("red", 90), ("blue", 90)):
            path = folder.parent / f"{colour}-{grey}-{number}.png"
            PillowImage.new("RGB", (64, 64 - 8 * number), colour if not grey else f"dark{colour}").save(path)
    shown = {colour: sorted(folder.parent.glob(f"{colour}-*.png")) for colour in ("red", "blue")}
    with Plumbline() as client:
        client.classify("of.colours", shown, {"red": "a red square", "blue": "a blue square"})
    return "classifier:of.colours"


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
@pytest.mark.parametrize("others", [(), ("fclipscore",)], ids=["alone", "beside another"])
def test_a_classifier_of_the_store_scores(
    folder: Path, tmp_path: Path, classifier: str, name: str, others: tuple[str, ...]
) -> None:
    ran = batch(folder, "-o", tmp_path / name, "--scorers", ",".join((classifier, *others)))
    assert (ran.exit_code, type(ran.exception)) == (1, SystemExit), ran.output
    found = open_scored(tmp_path / name)
    assert set(found.facts.scorers) == {classifier, *others}
    assert found.facts.scorers[classifier].conventions.keys() == {"class", "made"}
    assert [len(digest) for digest in found.facts.scorers[classifier].weights.values()] == [64]
    lines = {line["image"]: line for line in found.lines()}
    with Plumbline() as client:
        reply = client.score([Item(folder / image) for image in lines], scorers=[classifier])
    for line, result in zip(lines.values(), reply.results, strict=True):
        score = result.scores[classifier]
        assert line[classifier] == pytest.approx(score.value, abs=1e-6)
        details = score.model_extra or {}
        assert line[f"{classifier}.class"] == details["class"]
        assert line[f"{classifier}.probabilities"] == pytest.approx(details["probabilities"], abs=1e-6)
    assert lines["red.png"][classifier] > 0.5 > lines["blue.png"][classifier]


def test_a_classifier_that_the_store_lacks_or_nothing_reads_is_refused(
    folder: Path, tmp_path: Path, classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = batch(folder, "-o", tmp_path / "out.csv", "--scorers", "classifier:other")
    assert isinstance(ran.exception, UnknownArtefactError)
    assert "no classifier 'other'" in ran.exception.detail
    monkeypatch.setenv("PLUMBLINE_SCORERS", '{"integrity": {}}')
    ran = batch(folder, "-o", tmp_path / "out.csv", "--scorers", classifier)
    assert isinstance(ran.exception, UnknownScorerError)
    assert "no configured scorer reads" in ran.exception.detail
    monkeypatch.setenv("PLUMBLINE_STORE", f"sqlite:///{tmp_path}")
    ran = batch(folder, "-o", tmp_path / "out.csv", "--scorers", classifier)
    assert isinstance(ran.exception, StoreUnavailableError)
