"""What a cached engine is found by: the weights, the architecture and the code that made the graph."""

import hashlib
from functools import cache
from importlib import metadata, util
from pathlib import Path

_PACKAGE = "plumbline_models."


def fingerprint(*facts: str, packages: tuple[str, ...]) -> str:
    """Hex sha256 over what decides a graph's results; needs no framework.

    Args:
        facts: The weights' sha256, the architecture, and what else the graph was made with.
        packages: Below `plumbline_models`: the network's own and those that it is built on. Every file in them counts,
            so that a change of any never meets an engine of before.
    """
    digest = hashlib.sha256()
    for part in (*facts, metadata.version("open_clip_torch"), *(_package_digest(_PACKAGE + name) for name in packages)):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


@cache
def _package_digest(package: str) -> str:
    """Of the names and contents of a package's files, found without importing its modules."""
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(package)
    digest = hashlib.sha256()
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            for part in (str(file.relative_to(folder)).encode(), file.read_bytes()):
                digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
