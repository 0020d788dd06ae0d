"""A key, and a cache entry of plain files, for tests of the cache alone."""

from dataclasses import replace
from pathlib import Path

from plumbline_models.backends.store.engine_store import EngineCache
from plumbline_models.backends.store.key import Recipe, engine_key
from tests.models.backends.tiny_graphs import LIFT_GRAPH

RECIPE = Recipe(backend="probe", version="1", precision="fp32", device="cpu")
KEY = engine_key(LIFT_GRAPH, RECIPE)
NEXT_KEY = engine_key(LIFT_GRAPH, replace(RECIPE, version="2"))
PLAN = b"plan" * 1000


def write_artefacts(folder: Path) -> None:
    (folder / "graph.plan").write_bytes(PLAN)
    (folder / "graph.txt").write_text("layers")


def filled(cache_dir: Path) -> Path:
    entry = EngineCache(cache_dir).store(KEY, write_artefacts)
    assert entry is not None
    return entry


def flip_a_byte(entry: Path) -> None:
    (entry / "graph.plan").write_bytes(PLAN[:-1] + b"!")
