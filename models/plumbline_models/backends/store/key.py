"""What a cached engine is found by: everything that changes what is compiled, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from plumbline_models.core.graph import Graph

FORMAT = 1
"""Raised when the export or the layout of an entry changes, so that what older versions wrote is left alone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What changes an engine besides its graph.

    Args:
        backend: Its name.
        version: Of the library that compiles.
        precision: Of the artefact; `any` where it is chosen when the artefact is loaded.
        device: What the artefact is bound to, with its capabilities; `any` where it is portable.
        options: Compiler settings that are built in.
    """

    backend: str
    version: str
    precision: str
    device: str
    options: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """JSON-ready facts and the digest that names them."""

    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Hex sha256 of the facts in canonical JSON."""
        canonical = json.dumps(self.facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def engine_key(graph: Graph, recipe: Recipe) -> EngineKey:
    """The key of one graph, compiled by one recipe."""
    facts = {
        "format": FORMAT,
        "graph": graph.name,
        "fingerprint": graph.fingerprint,
        "inputs": [asdict(spec) for spec in graph.inputs],
        "outputs": list(graph.outputs),
        **asdict(recipe),
    }
    # As JSON reads it back (tuples become lists), so that a manifest compares equal.
    return EngineKey(facts=json.loads(json.dumps(facts)))
