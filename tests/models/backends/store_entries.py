"""A key, and entries of plain files, for tests of the store alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from plumbline_models.backends.store.engine_store import Built, EngineStore, Entry
from plumbline_models.backends.store.key import Recipe, engine_key
from plumbline_models.backends.store.manifest import BrokenEntryError
from tests.models.backends.tiny_graphs import LIFT_GRAPH

RECIPE = Recipe(backend="probe", version="1", precision="fp32", device="cpu")
KEY = engine_key(LIFT_GRAPH, RECIPE)
NEXT_KEY = engine_key(LIFT_GRAPH, replace(RECIPE, version="2"))
PLAN = b"plan" * 1000


def write_artefacts(folder: Path) -> None:
    (folder / "graph.plan").write_bytes(PLAN)
    (folder / "graph.txt").write_text("layers")


def build(write: Callable[[Path], None] = write_artefacts) -> Callable[[], Built[bytes]]:
    return lambda: Built(write, use=lambda: b"from memory")


BUILD = build()


def must_not_build() -> Built[bytes]:
    raise AssertionError("a stored engine was built again")


def read(folder: Path) -> bytes:
    return (folder / "graph.plan").read_bytes()


def refuse(folder: Path) -> bytes:
    raise BrokenEntryError("the library refuses it")


def get_or_build(store: EngineStore | Path, *, key=KEY, build=BUILD, read=read) -> Entry[bytes]:
    opened = store if isinstance(store, EngineStore) else EngineStore(store)
    return opened.get_or_build(key, build=build, read=read)


def filled(cache_dir: Path) -> Path:
    entry = get_or_build(cache_dir)
    assert entry.folder is not None
    return entry.folder


def flip_a_byte(entry: Path) -> None:
    (entry / "graph.plan").write_bytes(PLAN[:-1] + b"!")
