"""The checkpoints that come inside the package, and the exported forms of their graphs."""

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import ShippedForm
from plumbline_models.weights.sources import CONFIG_NAMES, WEIGHT_NAMES

MINI_CLIP: Final = "mini-clip"
EMBEDDED: Final = "embedded"
"""What their origin says."""
_GRAPHS: Final = "graphs"


def embedded_folder(name: str) -> Path | None:
    """The folder of an embedded CLIP, or None where the package has none of that name."""
    folder = Path(str(resources.files("plumbline_models"))) / EMBEDDED / name
    if Path(name).name != name or not all(
        any((folder / file).is_file() for file in files) for files in (CONFIG_NAMES, WEIGHT_NAMES)
    ):
        return None
    return folder


def shipped_form(weights: Path, graph: str, read_weights: Callable[[], Mapping[str, Array]]) -> ShippedForm:
    """Where the exported form of a graph of embedded weights lies.

    Args:
        weights: In the folder of an embedded checkpoint.
        graph: Its name.
        read_weights: As `ShippedForm` has it.
    """
    return ShippedForm(weights.parent / _GRAPHS / graph, read_weights)
