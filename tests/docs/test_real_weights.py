"""The page on real weights, run: hub names as far as no hub is needed, folders and files to their scores."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from plumbline_models.weights.embedded import embedded_folder
from plumbline_serve.cli.main import cli
from plumbline_serve.cli.weights import find_weights
from plumbline_serve.demo import exhibits
from plumbline_serve.settings import load_settings
from tests.docs.pages import DOCS, Block, blocks, rows

PAGE = DOCS / "real_weights.md"
BY_HUB, BY_FOLDER, *_ = (block for block in blocks("yaml") if block.page == PAGE)
(RUN,) = (block for block in blocks("sh") if block.page == PAGE and "HF_HUB_OFFLINE" in block.text)
STANDS_FOR = {
    "vit-l-14-336": "mini-clip", "clip-flant5-xl": "mini-flant5", "clip-vit-large-patch14-336": "mini-clip",
    "flan-t5-xl": "mini-flant5",
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the page describes it: both configurations, an image, and smaller weights of the same layouts."""
    weights = tmp_path / "weights"
    weights.mkdir()
    for there, embedded in STANDS_FOR.items():
        (weights / there).symlink_to(folder(embedded))
    torch.save({"state_dict": load_file(folder("mini-qualiclip") / "weights.safetensors")}, weights / "qualiclip.pth")
    for block, file in ((BY_HUB, "plumbline.yaml"), (BY_FOLDER, "offline.yaml")):
        (tmp_path / file).write_text(block.text.replace("RN50-quickgelu", "mini-qualiclip"), encoding="utf-8")
    (tmp_path / "photo.jpg").write_bytes(exhibits()[0].path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUMBLINE_BACKEND", "torch")
    monkeypatch.setenv("PLUMBLINE_PRECISION", "fp32")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def folder(name: str) -> Path:
    found = embedded_folder(name)
    assert found is not None
    return found


def arguments(block: Block) -> list[str]:
    return shlex.split(block.text.partition('"a fox in the snow"')[2])


def test_hub_names_mean_what_the_table_shows(place: Path):
    found = find_weights(load_settings(place / "plumbline.yaml"), "here")
    assert not [each.fault for each in found if each.what.startswith("scorers.")]
    listed = [
        [f"`{each.what}`", ", ".join(each.scorers), each.origin.source, each.origin.licence]
        for each in found
        if each.origin is not None and "qualiclip" not in each.scorers
    ]
    assert listed == [cells for cells in rows(PAGE) if cells[0].startswith("`") and len(cells) == 4]


def test_folders_and_files_are_scored(place: Path, served):
    command = ["score", "photo.jpg", "--text", exhibits()[0].right, "--json", *arguments(RUN)]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    (scored,) = json.loads(result.stdout)["results"]
    items = [{"image": {"part": "image"}, "text": exhibits()[0].right}]
    document = json.dumps({"items": items, "scorers": list(scored["scores"])})
    files = {"request": (None, document), "image": (place / "photo.jpg").read_bytes()}
    (embedded,) = served.request("POST", "/v1/score", files=files).json()["results"]
    assert set(scored["scores"]) == {"clipscore", "vqascore", "qualiclip"}
    for scorer, score in scored["scores"].items():
        assert score["value"] == pytest.approx(embedded["scores"][scorer]["value"], abs=1e-6), scorer
