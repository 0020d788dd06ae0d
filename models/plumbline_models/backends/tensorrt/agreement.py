"""Whether an engine gives what torch gives: measured once per engine, weights and GPU, and stored.

It tells weights in the wrong place from rounding; how well an engine rounds is for golden numbers to say. The embedded
graphs differ by at most 1.3e-3 in fp16 (evaluated node by node) and 1.6e-2 in bf16 (torch, bf16 throughout); CLIP's
towers and that of CLIP-FlanT5 by more than 1 with two of their weights in each other's place.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from plumbline_models.backends.store.engine_store import Built, EngineStore
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import BrokenEntryError
from plumbline_models.backends.tensorrt.compiler import PlanSpec
from plumbline_models.backends.tensorrt.profiles import InputProfile
from plumbline_models.backends.tensorrt.splitting import split_dimension
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import DType, Graph
from plumbline_models.core.source_digest import source_digest

Differences: TypeAlias = Mapping[str, float]
"""Of an engine's outputs from torch's, by name; see `relative_difference`."""
_SOURCE: Final = "backends.tensorrt.agreement"
BOUNDS: Final[Mapping[str, float]] = {"fp32": 1e-3, "fp16": 0.03, "bf16": 0.1}
"""Of the difference's norm by that of the output, by precision."""
_NUM_ROWS: Final = 2
_NUM_IDS: Final = 2
_LEAST_NORM: Final = 1e-30
_VERDICT: Final = "verdict.json"


def check_agreement(engine: Engine, spec: PlanSpec, *, store: EngineStore, made_of: Mapping[str, str]) -> None:
    """Compare an engine's outputs for one batch with those of torch in float32 on the CPU, unless that was done before.

    Args:
        engine: Of that plan.
        spec: The graph, and the sizes that the engine takes.
        store: Keeps what came out.
        made_of: What that holds for.

    Raises:
        EngineError: They differ, now or when it was measured.
    """
    graph = spec.graph
    facts = {"check": source_digest(_SOURCE), "graph": graph.name, **made_of}
    differences = store.get_or_build(
        EngineKey(facts), build=lambda: _compare(engine, graph, draw_batch(graph, spec.profile)), read=_read
    ).value
    bound = BOUNDS[engine.info.precision]
    if not all(difference <= bound for difference in differences.values()):  # NaN is no agreement either
        raise EngineError(
            f"The engine of {graph.name} does not give what torch gives for the same weights.",
            graph=graph.name,
            reason=f"differences {differences}, bound {bound}",
        )


def draw_batch(graph: Graph, profile: Sequence[InputProfile]) -> dict[str, Array]:
    """Two rows of the sizes that an engine was tuned to, the same at every call.

    Pixels and unit rows are random. Token ids and positions are 0 or 1, which all graphs take.

    Args:
        graph: Whose inputs are drawn.
        profile: The sizes that the engine takes.
    """
    rng, rows = np.random.default_rng(0), split_dimension(graph)
    shapes = {spec.name: list(sizes.typical) for spec, sizes in zip(graph.inputs, profile, strict=True)}
    for spec, sizes in zip(graph.inputs, profile, strict=True):
        if spec.shape[0] == rows:
            shapes[spec.name][0] = min(_NUM_ROWS, sizes.largest[0])
    num_ids = min(_NUM_IDS, *(shape[0] for shape in shapes.values()))  # some of them count rows of another input
    return {spec.name: _draw(spec.dtype, shapes[spec.name], num_ids, rng) for spec in graph.inputs}


def _draw(dtype: DType, shape: Sequence[int], num_ids: int, rng: np.random.Generator) -> Array:
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if dtype == "int64":
        return rng.integers(0, num_ids, shape)
    values = rng.standard_normal(shape).astype(np.float32)
    unit: Array = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return unit


def _compare(engine: Engine, graph: Graph, batch: Mapping[str, Array]) -> Built[Differences]:
    # Imported here because it brings torch's modules and all weights in float32, once in an engine's life.
    import torch  # noqa: PLC0415

    from plumbline_models.backends.torch_backend import TorchBackend  # noqa: PLC0415

    expected = TorchBackend(torch.device("cpu"), precision="fp32").compile(graph).run(batch)
    found = engine.run(batch)
    differences = {name: relative_difference(found[name], expected[name]) for name in graph.outputs}
    return Built(
        write=lambda folder: _write(differences, folder),
        use=lambda: differences,
    )


def relative_difference(found: Array, expected: Array) -> float:
    """Norm of the difference by the norm of what is expected; NaN where either holds anything but numbers.

    Args:
        found: Of the engine.
        expected: Of torch.
    """
    wanted = expected.astype(np.float64)
    difference = float(np.linalg.norm(found.astype(np.float64) - wanted))
    return difference / max(float(np.linalg.norm(wanted)), _LEAST_NORM)


def _write(differences: Differences, folder: Path) -> None:
    (folder / _VERDICT).write_text(json.dumps(differences), encoding="utf-8")


def _read(folder: Path) -> Differences:
    try:
        return {str(name): float(value) for name, value in json.loads((folder / _VERDICT).read_text("utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BrokenEntryError(f"its files cannot be read: {error}") from error
