"""Finds shipped engines by a part of their key, where the rest of it is known only to whoever built them."""

from pathlib import Path
from typing import Any

from plumbline_models.backends.store.engine_store import ENGINES
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import BrokenEntryError, read_facts
from plumbline_models.core.errors import ConfigError


def find_shipped(engines_dir: Path, key: EngineKey, *, unknown: str) -> EngineKey | None:
    """The key of the shipped engine that is like `key`, whatever it was built with under one option of the compiler.

    What the key names is not verified here: `EngineCache.load` does it, as for any other.

    Args:
        engines_dir: As `plumbline compile --out` made it.
        unknown: The option's name.

    Raises:
        ConfigError: There are several.
    """
    folders = sorted(engines_dir.expanduser().glob(f"{ENGINES}/*/"))
    found = [facts for folder in folders if _without((facts := _facts(folder)), unknown) == key.facts]
    if len(found) > 1:
        raise ConfigError(
            f"There are {len(found)} engines of {key.facts['graph']} in engines.dir that differ in their {unknown} "
            "only; leave the one that is meant.",
            engines_dir=str(engines_dir),
        )
    return EngineKey(found[0]) if found else None


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return read_facts(folder)
    except (BrokenEntryError, OSError):
        return {}


def _without(facts: dict[str, Any], option: str) -> dict[str, Any] | None:
    options = facts.get("options")
    if not isinstance(options, dict) or option not in options:
        return None
    return {**facts, "options": {name: value for name, value in options.items() if name != option}}
