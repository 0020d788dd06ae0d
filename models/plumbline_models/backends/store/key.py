"""What a stored engine is found by: everything that changes what is compiled, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from plumbline_models.core.graph import Graph
from plumbline_models.core.source_digest import source_digest

LAYOUT = 2
"""Raised when entries hold other files than before, so that what older versions wrote is left alone."""
_EXPORTER = ("backends.export", "backends.agreement")
"""What is exported, and the references that go with it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What changes an engine besides its graph.

    Args:
        backend: Its name.
        version: Of the library that compiles.
        precision: Of the artefact; `any` where it is chosen when the artefact is loaded.
        device: What the artefact is bound to, with its capabilities; `any` where it is portable.
        options: Compiler settings that are built in.
        sources: Modules that decide what is built, besides the exporter; names as `source_digest` takes them.
    """

    backend: str
    version: str
    precision: str
    device: str
    options: Mapping[str, str | int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


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
    """The key of one graph, compiled by one recipe with the sources of today.

    Args:
        graph: What is compiled.
        recipe: How.
    """
    facts = {
        "layout": LAYOUT,
        "graph": graph.name,
        "fingerprint": graph.fingerprint,
        "inputs": [asdict(spec) for spec in graph.inputs],
        "outputs": list(graph.outputs),
        **asdict(recipe),
        "sources": {name: source_digest(name) for name in (*_EXPORTER, *recipe.sources)},
    }
    # As JSON reads it back (tuples become lists), so that a manifest compares equal.
    return EngineKey(facts=json.loads(json.dumps(facts)))
