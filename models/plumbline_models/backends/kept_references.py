"""What torch gives for a graph's fixed inputs, kept in the engine store for engines that are made without an export."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from plumbline_models.backends.agreement import SOURCE, References, Sizes, draw_inputs
from plumbline_models.backends.store.engine_store import Built, EngineStore
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import BrokenEntryError
from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import Graph
from plumbline_models.core.source_digest import source_digest


def keep_references(
    graph: Graph,
    sizes: Sizes,
    *,
    weights: str,
    store: EngineStore,
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
) -> References:
    """Find them, or have torch run the fixed inputs and keep what it gives.

    Args:
        graph: What is computed.
        sizes: Of the fixed inputs.
        weights: Names the weights, the architecture and the code.
        store: Keeps them.
        run: Torch in float32, called where there are none yet.
    """

    def build() -> Built[References]:
        references = References.of(run(draw_inputs(graph, sizes)), sizes)
        return Built(write=references.write, use=lambda: references)

    facts = {"check": source_digest(SOURCE), "graph": graph.name, "weights": weights, "sizes": dict(sizes)}
    key = EngineKey(json.loads(json.dumps(facts)))  # as JSON reads it back, so that a manifest compares equal
    return store.get_or_build(key, build=build, read=_read).value


def _read(folder: Path) -> References:
    try:
        return References.read(folder)
    except OSError as error:
        raise BrokenEntryError(f"its files cannot be read: {error}") from error
