"""Scorers of other packages: whoever installs one registers it under the entry point group `plumbline.scorers`.

    [project.entry-points."plumbline.scorers"]
    agreement = "my_package.agreement:Agreement"

The entry's name is the scorer's, and nothing of the package is imported until a configuration names it.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.protocols import Scorer, ScorerInfo

GROUP: Final = "plumbline.scorers"


def installed_names() -> list[str]:
    """Names that packages of this environment have registered, each once."""
    return list(dict.fromkeys(entry.name for entry in entry_points(group=GROUP)))


def load_installed(name: str) -> type[Scorer]:
    """Import the scorer registered under a name.

    Raises:
        ConfigError: No package or more than one registers it, it does not import, or it is no scorer of that name.
    """
    entries = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if len(entries) != 1:
        packages = ", ".join(sorted(_package(entry) for entry in entries.values())) or "none"
        raise ConfigError(f"One package must register the scorer {name}, and not: {packages}.", scorer=name)
    (entry,) = entries.values()
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The scorer {name} of {_package(entry)} does not import: {error}.", scorer=name, entry=entry.value
        ) from error
    info = getattr(found, "info", None)
    if not isinstance(info, ScorerInfo) or not callable(getattr(found, "build", None)):
        raise ConfigError(f"{entry.value} of {_package(entry)} is no scorer.", scorer=name)
    if info.name != name:
        raise ConfigError(f"{entry.value} is registered as {name} and calls itself {info.name}.", scorer=name)
    return cast("type[Scorer]", found)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unnamed package"
