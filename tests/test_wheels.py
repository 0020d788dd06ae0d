"""What is built and installed works on its own, away from the sources."""

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "serve" / "plumbline_serve" / "demo" / "gallery" / "red_circle.png"


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that sees our dependencies, but of ours only the wheels.

    Paths in a `.pth` file are put on the path without the `.pth` files in them, so that no editable install shows.
    """
    home = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    wheels = home / "dist"
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT, ROOT / "clients")
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv")
    [packages] = (home / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    run(*pip, "--python", home / "venv" / "bin" / "python", "install", "--no-deps", "--no-index", *wheels.glob("*.whl"))
    return home / "venv" / "bin"


def test_the_sources_are_not_on_the_path(installed: Path) -> None:
    program = "import plumbline_models, plumbline_serve, plumbline_client; print(plumbline_models.__file__)"
    assert Path(run(installed / "python", "-c", program).strip()).is_relative_to(installed.parent)


def test_an_installed_command_scores_with_the_embedded_encoders(installed: Path, tmp_path: Path) -> None:
    settings = {"PLUMBLINE_BACKEND": "torch", "PLUMBLINE_CACHE_DIR": str(tmp_path)}
    answer = json.loads(run(installed / "plumbline", "score", PICTURE, "--text", "a red circle", "--json", **settings))
    [result] = answer["results"]
    assert result["status"] == "ok"
    assert result["scores"]["clipscore"]["value"] > 0
