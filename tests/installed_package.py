"""Another distribution with a scorer, as pip would leave it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def installed(folder: Path, module: Path, entry_points: Mapping[str, str]) -> Path:
    """A folder for Python's path with one module, and the entry points that register its scorers.

    Args:
        folder: Where to make it.
        module: The file; the distribution is called as it is.
        entry_points: `module:Class` by name of the scorer.
    """
    name, site = module.stem, folder / "site"
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    shutil.copy(module, site)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = ["[plumbline.scorers]", *(f"{scorer} = {where}" for scorer, where in entry_points.items()), ""]
    (facts / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return site


def path_with(site: Path) -> str:
    """Python's path for a program that is to find it, before what this process finds."""
    return os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
