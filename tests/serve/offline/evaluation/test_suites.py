"""Each suite reads the files as they are published, and judges scores as its paper does; small sets, by hand."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.cli.main import cli
from plumbline_serve.offline.evaluation import SUITES, suite_of
from plumbline_serve.offline.evaluation.foils import SCENES

NUM_SCENES = 18


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def answer(value: float, words: list[tuple[str, float]] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"value": value, "cosine": 0.25}
    if words is not None:
        found["words"] = [{"text": text, "attribution": number, "start": 0, "end": 1} for text, number in words]
    return found


def figures(name: str, folder: Path, scorer: str, answers: dict[Any, Any]) -> dict[str, Any]:
    """The figures of a suite, where each row gets the answer for its image and caption."""
    cases = suite_of(name).read(folder)
    results = [answers[row.name, row.text] for row in cases.rows]
    return {each.measure: (each.value, each.num) for each in cases.judge(scorer, results)}


def test_tifa160(tmp_path: Path) -> None:
    keys = [f"coco_1_{model}" for model in ("mini_dalle", "vq_diffusion", "stable_diffusion_v1_5")]
    write(
        tmp_path / "tifa160.json", {k: {"text_id": "coco_1", "image_path": f"{k}.jpg", "text": "a fox"} for k in keys}
    )
    header = "data_type,model_type,item_id,source_id,worker_id,question,answer\n"
    rated = (("mini-dalle", 1), ("mini-dalle", 3), ("vq-diffusion", 2), ("sd1dot5", 5))
    lines = [f"tifa160,{model},tifa160_1,coco_1,7,How?,{number}\n" for model, number in rated]
    write(tmp_path / "dsg_tifa160_anns.csv", header + "".join(lines))
    (tmp_path / "tifa160").mkdir()
    rows = suite_of("tifa160").read(tmp_path).rows
    assert [row.image for row in rows] == [tmp_path / "tifa160" / f"{key}.jpg" for key in keys]
    values = dict(zip(keys, (0.1, 0.2, 0.9), strict=True))
    found = figures("tifa160", tmp_path, "vqascore", {(f"{k}.jpg", "a fox"): answer(v) for k, v in values.items()})
    assert found["pairwise accuracy"] == (100.0, 3)  # means 2, 2 and 5: a threshold of 0.1 ties the first two
    assert found["Kendall tau-b"][0] == pytest.approx(100 * 2 / (3 * 2) ** 0.5)


def test_genai_bench(tmp_path: Path) -> None:
    document = {
        "00000": {"prompt": "a fox", "models": {"DALLE_3": [5, 5, 5], "SDXL_Base": [1, 2, 3]}},
        "00001": {"prompt": "a cat", "models": {"DALLE_3": [4, 4, 4]}},
    }
    write(tmp_path / "GenAI-Image-527" / "genai_image.json", document)
    rows = suite_of("genai-bench").read(tmp_path).rows
    folder = tmp_path / "GenAI-Image-527"
    expected = [("DALLE_3", "00000"), ("DALLE_3", "00001"), ("SDXL_Base", "00000")]
    assert [row.image for row in rows] == [folder / model / f"{key}.jpeg" for model, key in expected]
    judged = suite_of("genai-bench").read(tmp_path).judge("vqascore", [answer(0.9), None, answer(0.1)])
    assert (judged[0].value, judged[0].num) == (100.0, 2)


@pytest.mark.parametrize("layout", ["metadata.csv", "examples.jsonl"])
def test_winoground(tmp_path: Path, layout: str) -> None:
    captions = ("some plants surrounding a lightbulb", "a lightbulb surrounding some plants")
    if layout == "metadata.csv":
        lines = f"id,image_0,image_1,caption_0,caption_1\n0,images/a.png,images/b.png,{captions[0]},{captions[1]}\n"
        write(tmp_path / layout, lines)
    else:
        example = {"id": 0, "image_0": "a", "image_1": "b", "caption_0": captions[0], "caption_1": captions[1]}
        write(tmp_path / layout, example)
    scores = {("a.png", 0): 0.9, ("a.png", 1): 0.2, ("b.png", 0): 0.95, ("b.png", 1): 0.99}
    found = figures("winoground", tmp_path, "vqascore", {(i, captions[c]): answer(v) for (i, c), v in scores.items()})
    assert found == {"text": (100.0, 1), "image": (0.0, 1), "group": (0.0, 1)}


def test_foil_judges_by_the_lowest_word(tmp_path: Path) -> None:
    annotations = [
        {"id": 1, "image_id": 9, "caption": "a dog runs ", "target_word": "ORIG", "foil_word": "ORIG", "foil": False},
        {"id": 2, "image_id": 9, "caption": "a cat runs", "target_word": "dog", "foil_word": "cat", "foil": True},
        {"id": 3, "image_id": 9, "caption": "a bus runs", "target_word": "dog", "foil_word": "bus", "foil": True},
    ]
    images = [{"id": 9, "file_name": "COCO_val2014_000000000009.jpg"}]
    write(tmp_path / "foilv1.0_test_2017.json", {"images": images, "annotations": annotations})
    (tmp_path / "val2014").mkdir()
    name = images[0]["file_name"]
    answers = {
        (name, "a dog runs"): answer(0.0, [("a", 0.1), ("dog", 0.2), ("runs", 0.1)]),
        (name, "a cat runs"): answer(-0.1, [("a", 0.1), ("Cat.", -0.4), ("runs", 0.1)]),
        (name, "a bus runs"): answer(-0.1, [("a", -0.3), ("bus", 0.2), ("runs", 0.1)]),
    }
    assert figures("foil", tmp_path, "fclipscore", answers) == {"LA": (0.5, 2), "AP": (1.0, 3)}
    assert figures("foil", tmp_path, "clipscore", answers) == {"AP": (1.0, 3)}


def test_nocaps_foil(tmp_path: Path) -> None:
    entry = {
        "image_path": "x.jpg",
        "references": [],
        "baseline": "a tree. ",
        "foil": "a tower. ",
        "domain": "in-domain",
    }
    write(tmp_path / "nocaps-val-foil.json", [{**entry, "replacement": ["tree", "tower"]}])
    (tmp_path / "nocaps").mkdir()
    answers = {
        ("x.jpg", "a tree."): answer(-0.2, [("a", 0.1), ("tree", -0.3)]),
        ("x.jpg", "a tower."): answer(-0.1, [("a", 0.1), ("tower", -0.1)]),
    }
    assert figures("nocaps-foil", tmp_path, "fclipscore", answers) == {"LA": (1.0, 1), "AP": (0.5, 2)}
    same = {**entry, "foil": "a tree. ", "replacement": ["tree", "tree"]}
    write(tmp_path / "nocaps-val-foil.json", [{**entry, "replacement": ["tree", "tower"]}, same])
    assert figures("nocaps-foil", tmp_path, "fclipscore", answers)["LA"] == (1.0, 1)  # what is no change is no foil


def test_koniq(tmp_path: Path) -> None:
    lines = "".join(f"{n}.jpg,0,0,0,0,0,105,3.5,0.5,{n}\n" for n in (10, 20, 30))
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
    write(tmp_path / "koniq10k_scores_and_distributions.csv", header + lines)
    (tmp_path / "512x384").mkdir()
    answers = {("10.jpg", None): answer(0.1), ("20.jpg", None): answer(0.2), ("30.jpg", None): answer(0.15)}
    assert figures("koniq10k", tmp_path, "qualiclip", answers)["SRCC"] == (pytest.approx(0.5), 3)


def test_flickr8k_counts_every_rating(tmp_path: Path) -> None:
    judgements = [{"caption": "a  dog", "rating": 4.0}, {"caption": "a  dog", "rating": 3.0}]
    judgements += [{"caption": "a cat", "rating": 1.0}, {"caption": "a cat", "rating": float("nan")}]
    entry = {"image_path": "images/x.jpg", "ground_truth": ["a  big dog"], "human_judgement": judgements}
    write(tmp_path / "flickr8k.json", {"1": entry})
    rows = suite_of("flickr8k-expert").read(tmp_path).rows
    assert [(row.text, row.references) for row in rows] == [("a dog", ("a big dog",))] * 2 + [("a cat", ("a big dog",))]
    answers = {("x.jpg", "a dog"): answer(0.9), ("x.jpg", "a cat"): answer(0.1)}
    value, num = figures("flickr8k-expert", tmp_path, "clipscore", answers)["Kendall tau-c"]
    assert (value, num) == (pytest.approx(100 * 2 * 2 / (9 / 2)), 3)  # 2 pairs in order, 3 rows, 2 different scores


def test_flickr8k_is_read_from_its_corpus_too(tmp_path: Path) -> None:
    captions = ("x.jpg#0\ta  big dog .", "x.jpg#1\ta dog .", "y.jpg#0\ta cat .")
    write(tmp_path / "Flickr8k_text" / "Flickr8k.token.txt", "\n".join(captions))
    ratings = ("x.jpg\ty.jpg#0\t1\t1\t2", "x.jpg\tx.jpg#1\t4\t4\t4", "y.jpg\tx.jpg#0\t1\t2\t1")
    write(tmp_path / "Flickr8k_text" / "ExpertAnnotations.txt", "\n".join(ratings) + "\n")
    images = tmp_path / "Flicker8k_Dataset"
    images.mkdir()
    rows = suite_of("flickr8k-expert").read(tmp_path).rows
    assert [(row.image, row.text) for row in rows[::3]] == [
        (images / "x.jpg", "a cat ."),
        (images / "y.jpg", "a big dog ."),
    ]
    assert len(rows) == 6  # a caption of the image itself is a reference, and is not judged
    assert rows[0].references == ("a big dog .", "a dog .")
    write(tmp_path / "Flickr8k_text" / "ExpertAnnotations.txt", "x.jpg\ty.jpg#0\t1\n")
    with pytest.raises(InvalidFieldError, match="3 fields, not 5"):
        suite_of("flickr8k-expert").read(tmp_path)


def test_hpdv2(tmp_path: Path) -> None:
    items = [{"prompt": "a fox", "image_path": ["a.jpg", "sub/b.jpg", "c.jpg"], "rank": [2, 1, 3]}]
    write(tmp_path / "test.json", items)
    (tmp_path / "test").mkdir()
    images = [row.image for row in suite_of("hpdv2").read(tmp_path).rows]
    assert images == [tmp_path / "test" / name for name in ("a.jpg", "sub/b.jpg", "c.jpg")]
    answers = {("a.jpg", "a fox"): answer(0.5), ("b.jpg", "a fox"): answer(0.1), ("c.jpg", "a fox"): answer(0.3)}
    assert figures("hpdv2", tmp_path, "pickscore", answers)["pairs in order"] == (pytest.approx(100 / 3), 1)


def test_the_scenes_that_ship_are_read_without_a_folder() -> None:
    cases = suite_of("scenes").read(None)
    assert len(cases.rows) == 180
    perfect = [answer(float(number % 2 == 0), [("x", 0.0)]) for number in range(len(cases.rows))]
    found = {each.measure: each.value for each in cases.judge("vqascore", perfect)}
    assert set(found.values()) == {1.0}
    assert len([name for name in found if name.startswith("true above foil, ")]) >= 7


@pytest.mark.parametrize("name", [name for name in SUITES if name != "scenes"])
def test_what_is_not_there_or_is_something_else_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidFieldError, match="--data"):
        suite_of(name).read(None)
    with pytest.raises(InvalidFieldError, match="holds no"):
        suite_of(name).read(tmp_path)
    for folder in ("tifa160", "val2014", "nocaps", "512x384", "test"):
        (tmp_path / folder).mkdir()
    files = (
        "tifa160.json",
        "genai_image.json",
        "foilv1.0_test_2017.json",
        "nocaps-val-foil.json",
        "flickr8k.json",
        "test.json",
    )
    for file in files:
        write(tmp_path / file, {"x": 3})
    for file in ("dsg_tifa160_anns.csv", "koniq10k_scores_and_distributions.csv", "metadata.csv"):
        write(tmp_path / file, "image_name,MOS_zscore,model_type,source_id,answer\nx,y,z,1,2\n")
    with pytest.raises(InvalidFieldError, match=r"not as it is published|no column"):
        suite_of(name).read(tmp_path)


@pytest.fixture
def _on_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scorers = '{"clipscore": {}, "fclipscore": {}}'
    settings = {"BACKEND": "torch", "PRECISION": "fp32", "CACHE_DIR": str(tmp_path / "cache"), "SCORERS": scorers}
    for key, value in settings.items():
        monkeypatch.setenv(f"PLUMBLINE_{key}", value)


def evaluate(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def few_scenes(tmp_path: Path) -> Path:
    """The first of the scenes that ship."""
    folder = tmp_path / "few"
    folder.mkdir()
    with tarfile.open(SCENES) as whole, tarfile.open(folder / SCENES.name, "w") as few:
        for member in whole.getmembers()[: 3 * NUM_SCENES]:
            few.addfile(member, whole.extractfile(member))
    return folder


@pytest.mark.usefixtures("_on_torch")
def test_the_command_prints_ours_beside_the_published_per_precision(few_scenes: Path) -> None:
    precisions = ("--precision", "fp32", "--precision", "bf16")
    ran = evaluate("scenes", "--data", few_scenes, *precisions, "--json", "--scorers", "clipscore")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["precisions"] == ["fp32", "bf16"]
    assert [each["clipscore"]["precision"] for each in found["made_by"]] == ["fp32", "bf16"]
    [line] = [each for each in found["table"] if each["measure"] == "true above foil"]
    assert min(line["figures"]) > 0.7  # of 18 scenes; by chance 0.5
    assert found["rows"] == 2 * NUM_SCENES
    assert line["published"][0]["value"] == 0.97


@pytest.mark.usefixtures("_on_torch")
def test_people_get_a_table(few_scenes: Path) -> None:
    ran = evaluate("scenes", "--data", few_scenes, "--scorers", "fclipscore")
    assert ran.exit_code == 0, ran.output
    assert "changed word lowest" in ran.stdout


@pytest.mark.usefixtures("_on_torch")
def test_why_rows_have_no_value_is_said(tmp_path: Path) -> None:
    (tmp_path / "512x384").mkdir()
    table = tmp_path / "koniq10k_scores_and_distributions.csv"
    table.write_text("image_name,MOS_zscore\na.jpg,1\nb.jpg,2\n", encoding="utf-8")
    arguments = ("koniq10k", "--data", tmp_path, "--scorers", "clipscore")
    ran = evaluate(*arguments)
    assert ran.exit_code == 1
    assert "a.jpg cannot be read: No such file" in ran.stderr
    found = json.loads(evaluate(*arguments, "--json").stdout)
    assert found["failed"] == 2
    assert "a.jpg" in found["first_problem"]


@pytest.mark.usefixtures("_on_torch")
@pytest.mark.parametrize("arguments", [["vibes"], ["scenes", "--precision", "fp7"], ["koniq10k", "--data", "."]])
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    assert isinstance(evaluate(*arguments).exception, InvalidFieldError)
