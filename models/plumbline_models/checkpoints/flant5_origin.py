"""What can be said of a CLIP-FlanT5 by its name, before anything is fetched."""

from pathlib import Path
from typing import Final

from plumbline_models.checkpoints.embedded import embedded_folder
from plumbline_models.checkpoints.flant5_folders import has_weights, is_folder_name
from plumbline_models.core.protocols import Origin

PUBLISHER: Final = "zhiqiulin/"
RESEARCH_ONLY: Final = "research use only"
"""What the published checkpoints' page says: they were trained on data under CC BY-NC."""


def origin_of(name: str) -> Origin:
    """Where a checkpoint comes from.

    Args:
        name: A folder, or a hub name; folders are shown by their last part only.
    """
    return Origin(source=_source(name), licence=_licence(name), is_present=has_weights(name))


def _source(name: str) -> str:
    if not is_folder_name(name):
        return name
    folder = Path(name).expanduser().resolve()
    return "embedded" if folder == embedded_folder(folder.name) else folder.name


def _licence(name: str) -> str:
    if "clip-flant5" in Path(name).name:
        return RESEARCH_ONLY
    return "Apache-2.0" if _source(name) == "embedded" else "unknown"
