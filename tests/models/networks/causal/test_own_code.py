"""Code that a causal checkpoint brings along is never run: the library's own classes are built, or nothing is."""

import json
import shutil
from pathlib import Path

import pytest

from loadtests.goldens.vqascore import GOLDEN
from plumbline_models.core.errors import CheckpointError
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.families import CAUSAL_FAMILIES
from plumbline_models.networks.vqa_family import settle_family

OWN = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoModelForImageTextToText": "own.Own"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A SmolVLM whose configurations name a module beside them, which ends the process that imports it."""
    copied = Path(shutil.copytree(GOLDEN / "smolvlm_tiny", tmp_path / "copied"))
    for name in ("config.json", "preprocessor_config.json"):
        values = json.loads((copied / name).read_text(encoding="utf-8"))
        (copied / name).write_text(json.dumps({**values, "auto_map": OWN}), encoding="utf-8")
    (copied / "own.py").write_text("raise SystemExit('the code of a checkpoint ran')", encoding="utf-8")
    return copied


def test_a_known_network_is_built_by_the_librarys_own_classes(folder: Path) -> None:
    network = CausalCheckpoint(str(folder), CAUSAL_FAMILIES["smolvlm"]).network
    assert type(network).__module__.startswith("transformers.models.")


def test_a_network_that_only_its_own_code_describes_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own_vlm"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="model_type own_vlm, which is of no family here"):
        settle_family(str(folder), None)
