"""Digests of Plumbline's own sources: what code has made is found only by code that would make it again."""

import hashlib
from functools import cache
from importlib import util
from pathlib import Path

_PACKAGE = "plumbline_models."


@cache
def source_digest(name: str) -> str:
    """Hex sha256 over the names and contents of a package's files, or of one module's; imports neither.

    Args:
        name: Below `plumbline_models`, for example `networks.clip` or `backends.tensorrt.builder`.

    Raises:
        ModuleNotFoundError: There is no such package or module.
    """
    spec = util.find_spec(_PACKAGE + name)
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise ModuleNotFoundError(_PACKAGE + name)
    digest = hashlib.sha256()
    if spec.submodule_search_locations is None:
        return hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest()
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            for part in (str(file.relative_to(folder)).encode(), file.read_bytes()):
                digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
