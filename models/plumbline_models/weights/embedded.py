"""The checkpoints that come inside the package."""

from importlib import resources
from pathlib import Path
from typing import Final

from plumbline_models.weights.sources import CONFIG_NAMES, WEIGHT_NAMES

MINI_CLIP: Final = "mini-clip"


def embedded_folder(name: str) -> Path | None:
    """The folder of an embedded CLIP, or None where the package has none of that name."""
    folder = Path(str(resources.files("plumbline_models"))) / "embedded" / name
    if Path(name).name != name or not all(
        any((folder / file).is_file() for file in files) for files in (CONFIG_NAMES, WEIGHT_NAMES)
    ):
        return None
    return folder
