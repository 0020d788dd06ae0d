"""The quick start's configuration and commands run: a checkpoint file of the published layout, to its first score."""

import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline_models.weights.embedded import embedded_folder
from plumbline_serve.cli.main import cli
from plumbline_serve.demo import exhibits
from plumbline_serve.machine.ports import free_port
from tests.docs.pages import DOCS, ROOT, blocks

PAGE = DOCS / "quick_start.md"
(CONFIG,) = (block.text for block in blocks("yaml") if block.page == PAGE)
FIRST, REAL = (block.text.splitlines() for block in blocks("sh") if block.page == PAGE)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLUMBLINE_BACKEND", "torch")
    monkeypatch.setenv("PLUMBLINE_PRECISION", "fp32")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PLUMBLINE_PORT", str(free_port()))
    monkeypatch.setenv("PLUMBLINE_GRPC_PORT", str(free_port()))

    def run(line: str, folder: Path) -> str:
        monkeypatch.chdir(folder)
        program, *arguments = shlex.split(line)
        assert program == "plumbline"
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_the_first_score_is_that_of_the_embedded_networks(run):
    setup, activate, score, _ = FIRST
    assert (setup, activate) == ("make setup", ". .venv/bin/activate")
    assert "clipscore" in run(score, ROOT)


def test_a_checkpoint_file_is_examined_and_scored(run, tmp_path: Path):
    embedded = embedded_folder("mini-clip")
    assert embedded is not None
    (tmp_path / "weights").mkdir()
    shutil.copy(embedded / "weights.safetensors", tmp_path / "weights" / "vit-b-32.safetensors")
    config = CONFIG.replace("ViT-B-32-quickgelu", "mini-clip")  # smaller, and in the same layout
    (tmp_path / "plumbline.yaml").write_text(config, encoding="utf-8")
    shutil.copy(exhibits()[0].path, tmp_path / "photo.jpg")
    assert "vit-b-32.safetensors" in run(REAL[0], tmp_path)
    assert "clipscore" in run(REAL[1], tmp_path)
