"""What is built and installed works on its own, away from the sources."""

import json
import os
import re
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMAGE = ROOT / "serve" / "plumbline_serve" / "demo" / "gallery" / "red_circle.png"


def run(*command: str | Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=inherited | environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `make wheel` builds, by the distribution's name."""
    folder = tmp_path_factory.mktemp("dist")
    variables = (f"BIN={Path(sys.executable).parent}", f"DIST={folder}")
    run("make", "--directory", ROOT, "--old-file=.venv/.installed", "wheel", *variables)
    return {file.name.partition("-")[0]: file for file in folder.iterdir()}


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that sees our dependencies, but of ours only the wheels of the service and of its client.

    Paths in a `.pth` file are put on the path without the `.pth` files in them, so that no editable install shows.
    """
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv")
    [packages] = (home / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "venv" / "bin" / "python")
    served = (wheels["plumbline_serve"], wheels["plumbline_client"])
    run(*pip, "install", "--no-deps", "--no-index", *served)
    return home / "venv" / "bin"


def names_in(wheel: Path) -> list[str]:
    return [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]


def test_three_distributions_are_built(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == ["plumbline_client", "plumbline_serve", "plumbline_training"]


def test_the_service_holds_its_weights_and_nothing_that_trained_them(wheels: dict[str, Path]) -> None:
    names = names_in(wheels["plumbline_serve"])
    assert {name.partition("/")[0] for name in names} == {"plumbline_models", "plumbline_serve"}
    assert not [name for name in names if "training" in name]
    assert "plumbline_models/embedded/mini-clip/weights.safetensors" in names


def test_training_brings_every_module_and_depends_on_the_service(wheels: dict[str, Path]) -> None:
    sources = ROOT / "models" / "plumbline_training"
    modules = {str(file.relative_to(sources.parent)) for file in sources.rglob("*.py")}
    assert set(names_in(wheels["plumbline_training"])) == modules
    needs = requirements_of(wheels["plumbline_training"])
    assert {"plumbline-serve", "scikit-image", "open-clip-torch"} <= needs
    assert not {"plumbline-training", "scikit-image"} & requirements_of(wheels["plumbline_serve"])


def requirements_of(wheel: Path) -> set[str]:
    [metadata] = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    lines = zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
    return {re.split(r"[^\w-]", line.split()[1])[0] for line in lines if line.startswith("Requires-Dist:")}


def test_the_sources_are_not_on_the_path(installed: Path) -> None:
    program = (
        "import importlib.util as u, plumbline_models, plumbline_serve, plumbline_client; "
        "assert u.find_spec('plumbline_training') is None; print(plumbline_models.__file__)"
    )
    assert Path(run(installed / "python", "-c", program).strip()).is_relative_to(installed.parent)


def test_an_installed_command_scores_with_the_embedded_encoders(installed: Path, tmp_path: Path) -> None:
    settings = {"PLUMBLINE_BACKEND": "torch", "PLUMBLINE_CACHE_DIR": str(tmp_path)}
    answer = json.loads(run(installed / "plumbline", "score", IMAGE, "--text", "a red circle", "--json", **settings))
    [result] = answer["results"]
    assert result["status"] == "ok"
    assert result["scores"]["clipscore"]["value"] > 0
