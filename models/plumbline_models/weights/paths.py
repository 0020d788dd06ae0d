"""Relative paths of a configuration, as seen from the folder that it lies in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

from plumbline_models.core.errors import ConfigError

PathKind: TypeAlias = Literal["path", "folder or hub name", "file or hub file", "after local-dir"]
Paths: TypeAlias = Mapping[str, "PathKind | Paths"]
"""Which options of a scorer's section name files or folders, and how, and those of the sections inside of it: the
optional class attribute `paths` of a scorer."""
CLIP_PATHS: Final[Paths] = {
    "arch": "after local-dir",
    **dict.fromkeys(("checkpoint", "image_checkpoint"), "path"),
    "adapter": "folder or hub name",
}
FOLDER: Final = "local-dir:"


def anchored(named: str, folder: Path, kind: PathKind) -> str:
    """A path of a configuration, absolute.

    Args:
        named: As it stands there.
        folder: Where the configuration lies.
        kind: A hub name has one slash and a hub file two; they stay as they are unless there is such a folder or file.
            An architecture is a path only behind `local-dir:`.

    Raises:
        ConfigError: It is in a home folder that does not exist.
    """
    if kind == "after local-dir":
        rest = named.removeprefix(FOLDER)
        return named if rest == named else f"{FOLDER}{anchored(rest, folder, 'path')}"
    try:
        seen = folder / Path(named).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{named} is in a home folder, and there is none here.") from error
    num_slashes = {"folder or hub name": 1, "file or hub file": 2}.get(kind)
    is_hub_name = named.count("/") == num_slashes and not named.startswith((".", "/", "~"))
    return named if is_hub_name and not seen.exists() else str(seen)
