"""What a cached engine is found by: the weights, the architecture and the code that made the graph."""

import hashlib
from importlib import metadata

from plumbline_models.core.source_digest import source_digest


def fingerprint(*facts: str, packages: tuple[str, ...], libraries: tuple[str, ...] = ()) -> str:
    """Hex sha256 over what decides a graph's results; needs no framework.

    Args:
        facts: The weights' sha256, the architecture, and what else the graph was made with.
        packages: Below `plumbline_models`: the network's own and those that it is built on. Every file in them counts,
            so that a change of any never meets an engine of before.
        libraries: Distributions whose modules or data are part of the graph; their versions count.
    """
    digest = hashlib.sha256()
    for part in (*facts, *map(metadata.version, libraries), *(source_digest(name) for name in packages)):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()
