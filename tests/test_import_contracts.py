"""No import contract is vacuous: in a copy of the sources each is broken once, and the check names what broke it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "models/plumbline_models",
    "models/plumbline_training",
    "serve/plumbline_serve",
    "clients/plumbline_client",
    "clients/plumbline_wire",
)
SOURCES = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.png", "*.model")
BREAKS = {
    "models-layers": ("plumbline_models.core.errors", "plumbline_models.images.decode"),
    "networks-layers": ("plumbline_models.networks.flant5.arch", "plumbline_models.networks.causal.rules"),
    "service-layers": ("plumbline_serve.batching.batcher", "plumbline_serve.edge.problems"),
    "scorers": ("plumbline_models.scorers.clipscore", "plumbline_models.scorers.qualiclip"),
    "cycles": ("plumbline_client.errors", "plumbline_client.retry"),
    "torch": ("plumbline_models.images.decode", "torch"),
    "compilers": ("plumbline_models.networks.clip.graph", "openvino"),
    "ray": ("plumbline_serve.requests.pipeline", "ray"),
    "network": ("plumbline_serve.requests.images", "httpcore"),
    "training": ("plumbline_serve.settings.configuration", "plumbline_training.scenes"),
    "clients": ("plumbline_client.images", "plumbline_models.core.arrays"),
}
"""By contract: a module, and what it must not import; only within a function, as lazy imports are."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the check says of each contract, by its name, once all are broken."""
    copy = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / Path(package).name, ignore=SOURCES)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for module, imported in BREAKS.values():
        file = copy.joinpath(*module.split(".")).with_suffix(".py")
        file.write_text(f"{file.read_text()}\n\ndef _late() -> None:\n    import {imported}\n")
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "400"}
    ran = subprocess.run(
        [program, "--no-cache"], cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    broken = ran.stdout[ran.stdout.index("Broken contracts") :]
    parts = re.split(r"\n\n(?=[^\n]+\n-+\n)", broken)
    return {part.strip().splitlines()[0]: part for part in parts}


def contracts() -> dict[str, str]:
    """Names of all contracts by their ids."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {each["id"]: each["name"] for each in configuration["tool"]["importlinter"]["contracts"]}


def test_every_contract_is_tried() -> None:
    assert contracts().keys() == BREAKS.keys()


@pytest.mark.parametrize("contract", BREAKS)
def test_a_broken_contract_is_noticed(contract: str, report: dict[str, str]) -> None:
    module, imported = BREAKS[contract]
    found = " ".join(report[contracts()[contract]].split())
    assert imported.split(".")[-1] in found
    assert module.split(".")[-1] in found
