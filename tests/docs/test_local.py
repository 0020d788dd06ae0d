"""The examples of scoring in one's own process run, each as short as it claims to be."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from plumbline_serve.local import Plumbline
from tests.docs.pages import DOCS, ROOT, blocks

PAGE = DOCS / "local.md"
GALLERY = ROOT / "serve" / "plumbline_serve" / "demo" / "gallery"
EXAMPLES = [block.text for block in blocks("python") if block.page == PAGE]
NAMES = ["red_circle", "green_star", "three_diamonds", "striped_square"]
MAX_LINES = 15


@pytest.fixture(scope="module")
def plumbline(tmp_path_factory: pytest.TempPathFactory):
    config = {"backend": "torch", "precision": "fp32", "cache_dir": str(tmp_path_factory.mktemp("cache"))}
    with Plumbline(config | {"scorers": {"clipscore": {}, "vqascore": {}}}) as plumbline:
        yield plumbline


@pytest.fixture
def run(plumbline, tmp_path: Path, monkeypatch):
    """Runs an example as its reader does, beside what the text before it has made."""
    monkeypatch.chdir(tmp_path)

    def run(index: int, **given: Any) -> dict[str, Any]:
        names = {"plumbline": plumbline, **given}
        exec(EXAMPLES[index], names)  # noqa: S102 - it is our page's
        return names

    return run


def test_examples_are_short():
    assert len(EXAMPLES) == 4
    assert max(len([line for line in each.splitlines() if line]) for each in EXAMPLES) <= MAX_LINES


def test_files_are_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUMBLINE_BACKEND", "torch")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path))
    shutil.copy(GALLERY / "red_circle.png", tmp_path)
    exec(EXAMPLES[0], {})  # noqa: S102 - it is our page's
    value, words = capsys.readouterr().out.split(maxsplit=1)
    assert 0 < float(value) < 2.5
    assert words.strip() == "['green']"


def test_the_best_of_n_is_the_image_of_the_prompt(run, tmp_path):
    def pipe(prompt: str, seed: int) -> SimpleNamespace:
        return SimpleNamespace(images=[PIL.Image.open(GALLERY / f"{NAMES[seed]}.png")])

    names = run(1, pipe=pipe)
    assert names["ranking"][0].index == NAMES.index("red_circle")
    assert np.array_equal(
        np.asarray(PIL.Image.open(tmp_path / "best.png")), np.asarray(PIL.Image.open(GALLERY / "red_circle.png"))
    )


def test_advantages_are_of_each_group_and_nothing_of_what_failed(run, plumbline):
    pictures = [np.asarray(PIL.Image.open(GALLERY / f"{each}.png").convert("RGB").resize((64, 64))) for each in NAMES]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    advantages = run(2)["advantages"]
    found = advantages(images, ["a red circle", "a red circle", "three diamonds", "x" * 5000], 2)
    assert found[0] > 0 > found[1]
    assert found[:2].sum().abs() < 1e-5
    assert found[2:].tolist() == [0, 0]  # of one value, and of one that is too long


def test_a_dataset_holds_what_fits(run):
    circle = GALLERY / "red_circle.png"
    pairs = [(circle, "a red circle"), (circle, "three blue diamonds"), (b"no image", "a red circle")]
    dataset = run(3)["Fitting"](pairs, 1.5)
    assert (len(dataset), dataset[0]) == (1, pairs[0])
