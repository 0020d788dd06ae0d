"""The files of `deploy/`, read as what reads them does."""

from pathlib import Path
from typing import Any

import yaml

from plumbline_serve.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def settings_of(values: Any, folder: Path) -> Settings:
    """The settings as the real class reads them, from a file in a folder for that."""
    path = folder / "plumbline.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_settings(path)
