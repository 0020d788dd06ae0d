"""A backend without weights or frameworks: what comes out depends on nothing but what goes in.

For tests of everything around the engines, and for trying the service out. Rows do not depend on their
neighbours, their order or the batch's padding, and equal inputs give equal rows in every process.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.backends.inputs import arrange_inputs
from plumbline_models.backends.tuning import PrecisionChoice, Tuning
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.graph import Dim, Graph

DEFAULT_WIDTH = 64

RunHook: TypeAlias = Callable[[str, Mapping[str, Array]], None]
"""Called with the graph's name and the batch before it is computed; may wait for an event, or raise."""


def open_backend(precision: PrecisionChoice, tuning: Tuning) -> "FakeBackend":
    """Open the fake backend; both arguments are taken and ignored.

    Args:
        precision: Ignored.
        tuning: Ignored.
    """
    del precision, tuning
    return FakeBackend()


def devices() -> tuple[str, ...]:
    """None at all."""
    return ()


class FakeBackend:
    """Makes engines that hash.

    Args:
        widths: Row width of outputs, by name; others have what the graph states, or 64.
        on_run: See `RunHook`.
    """

    name = "fake"
    precision = "fp32"

    def __init__(self, widths: Mapping[str, int] | None = None, *, on_run: RunHook | None = None) -> None:
        self._widths = dict(widths or {})
        self._on_run = on_run

    def compile(self, graph: Graph) -> "FakeEngine":
        """An engine of the graph's inputs and outputs; its module is never built."""
        return FakeEngine(graph, self._widths, on_run=self._on_run)


class FakeEngine:
    """Answers every batch with rows seeded by a hash of the input rows.

    The last axis of a row has unit norm; where its size is 1, or varies with the batch, numbers lie in [0, 1).
    """

    def __init__(self, graph: Graph, widths: Mapping[str, int], *, on_run: RunHook | None = None) -> None:
        self._specs = graph.inputs
        usual: Sequence[int | Dim] = (graph.inputs[0].shape[0], DEFAULT_WIDTH)
        stated: Mapping[str, Sequence[int | Dim]] = dict(zip(graph.outputs, graph.output_shapes, strict=False))
        self._batch_dims = {name: stated.get(name, usual)[0] for name in graph.outputs}
        self._row_shapes = {
            name: (widths[name],) if name in widths else tuple(stated.get(name, usual)[1:]) for name in graph.outputs
        }
        self._on_run = on_run
        self._info = EngineInfo(graph=graph.name, backend="fake", precision="fp32", device="cpu", key="")

    @property
    def info(self) -> EngineInfo:
        """The graph's name, and that nothing was compiled."""
        return self._info

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run one batch; see `Engine.run`."""
        arrays, sizes = arrange_inputs(self._info.graph, self._specs, inputs)
        if self._on_run is not None:
            self._on_run(self._info.graph, inputs)
        return {
            name: np.stack([_draw(f"{name}:{seed}", shape, sizes) for seed in self._seeds(name, arrays)])
            for name, shape in self._row_shapes.items()
        }

    def _seeds(self, output: str, arrays: Sequence[Array]) -> list[str]:
        """One a row of the output, of those inputs that have as many rows."""
        batch = self._batch_dims[output]
        mates = [array for array, spec in zip(arrays, self._specs, strict=True) if spec.shape[0] == batch]
        return [self._seed(rows) for rows in zip(*mates, strict=True)]

    def _seed(self, rows: Sequence[Array]) -> str:
        digest = hashlib.blake2b(self._info.graph.encode(), digest_size=16)
        for row in rows:
            # Padding is zeros at the end; without them a row is the same in every batch.
            digest.update(hashlib.blake2b(row.tobytes().rstrip(b"\0"), digest_size=16).digest())
        return digest.hexdigest()


def _draw(seed: str, shape: Sequence[int | Dim], sizes: Mapping[str, int]) -> NDArray[np.float32]:
    key = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=16).digest(), "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    resolved = [sizes.get(dim.name, dim.typical) if isinstance(dim, Dim) else dim for dim in shape]
    if not shape or shape[-1] == 1 or isinstance(shape[-1], Dim):
        return np.asarray(generator.random(size=resolved, dtype=np.float32))
    values = generator.standard_normal(size=resolved, dtype=np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), dtype=np.float32)
