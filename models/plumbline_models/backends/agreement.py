"""Whether an engine gives what torch gives: fixed inputs, what torch makes of them, how far an engine may be from it.

What is compared is made when a graph is exported, where its torch module is at hand, and kept beside whatever is made
of the graph: an engine in the store, weights that lie apart, a form that ships. So every engine is compared each time
that it is loaded, without torch, and one that is read back wrong is found like one that was built wrong.

It tells wrong numbers from rounding; how well an engine rounds is for golden numbers to say. The embedded graphs differ
by at most 1.3e-3 in fp16 (evaluated node by node) and 1.6e-2 in bf16 (torch, bf16 throughout); CLIP's towers and that
of CLIP-FlanT5 by more than 1 with two of their weights in each other's place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from plumbline_models.backends.inputs import rows_dimension
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, Graph, TensorSpec

Sizes: TypeAlias = Mapping[str, Sequence[int]]
"""Of an input's dimensions, by its name."""
REFERENCES: Final = "references.safetensors"
SOURCE: Final = "backends.agreement"
"""What the fixed inputs are made by; part of the key of what is kept."""
BOUNDS: Final[Mapping[str, float]] = {"fp32": 1e-3, "fp16": 0.03, "bf16": 0.1, "fp8": 0.1, "int8": 0.1}
"""Of the difference's norm by that of the output, by precision. An engine in int8 or fp8 is held to what its graph gave
when it was measured: CPUs add up in other orders, and so do GPUs."""
NUM_INPUTS: Final = 16
_FEW: Final = 2
_SMALL_BYTES: Final = 64 * 2**20
_LARGE_BYTES: Final = 512 * 2**20
_LEAST_NORM: Final = 1e-30
_NUM_GRAINS: Final = 5
_NUM_SAMPLED: Final = 256


class WrongNumbersError(Exception):
    """An engine does not give what it must; never leaves the backends.

    Args:
        graph: Its name.
        reason: The differences.
    """

    def __init__(self, graph: str, reason: str) -> None:
        self.detail = f"The engine of {graph} does not give what torch gives for the same weights."
        self.facts = {"reason": reason}
        super().__init__(self.detail)


def num_when_built(weight_bytes: int) -> int:
    """How many inputs torch runs for a graph: 16, or 2 where each takes seconds.

    Args:
        weight_bytes: Of the graph in float32.
    """
    return NUM_INPUTS if weight_bytes <= _LARGE_BYTES else _FEW


def num_when_loaded(weight_bytes: int) -> int:
    """How many of them a CPU engine is compared on at each start: 16, or 2 where 16 would take a second.

    Args:
        weight_bytes: Of the engine.
    """
    return NUM_INPUTS if weight_bytes <= _SMALL_BYTES else _FEW


@dataclass(frozen=True, slots=True)
class References:
    """What a graph must give for its fixed inputs.

    Args:
        outputs: By name, `[rows, values]`: of each row as many values as `sample_rows` takes.
        sizes: Of the inputs that they were made of.
    """

    outputs: Mapping[str, Array]
    sizes: Sizes

    @classmethod
    def of(cls, outputs: Mapping[str, Array], sizes: Sizes) -> "References":
        """Of what a graph gave.

        Args:
            outputs: By name.
            sizes: Of the inputs.
        """
        return cls({name: sample_rows(array) for name, array in outputs.items()}, sizes)

    def write(self, folder: Path) -> None:
        """Write them into a folder.

        Raises:
            OSError: The disk refuses.
        """
        sizes = {f"{_SIZES}{name}": np.array(shape, np.int64) for name, shape in self.sizes.items()}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.outputs.items()}
        try:
            save_file({**arrays, **sizes}, folder / REFERENCES)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    @classmethod
    def read(cls, folder: Path) -> "References":
        """Read them back.

        Raises:
            OSError: There are none, or they are damaged.
        """
        try:
            arrays = load_file(folder / REFERENCES)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        sizes = {
            name.removeprefix(_SIZES): tuple(array.tolist())
            for name, array in arrays.items()
            if name.startswith(_SIZES)
        }
        return cls({name: array for name, array in arrays.items() if not name.startswith(_SIZES)}, sizes)


_SIZES: Final = "sizes of "


def fixed_sizes(graph: Graph, *, num_inputs: int, sizes: Sizes | None = None) -> Sizes:
    """The sizes of a graph's fixed inputs.

    Args:
        graph: Whose.
        num_inputs: As many as the graph takes at a time, at most.
        sizes: Typical ones, where they are not the graph's own.
    """
    rows = _rows_of(graph)
    return {spec.name: _sizes_of(spec, rows, num_inputs, (sizes or {}).get(spec.name)) for spec in graph.inputs}


def _rows_of(graph: Graph) -> Dim | None:
    """None where a graph has no batch: what is counted along another axis too is a length."""
    try:
        rows = rows_dimension(graph)
    except EngineError:
        return None
    return None if any(rows in spec.shape[1:] for spec in graph.inputs) else rows


def _sizes_of(spec: TensorSpec, rows: Dim | None, num_inputs: int, chosen: Sequence[int] | None) -> tuple[int, ...]:
    typical = chosen or [size.typical if isinstance(size, Dim) else size for size in spec.shape]
    first = min(num_inputs, rows.high) if rows is not None and spec.shape[0] == rows else typical[0]
    return (first, *typical[1:])


def draw_inputs(graph: Graph, sizes: Sizes, *, num_inputs: int = NUM_INPUTS) -> dict[str, Array]:
    """The fixed inputs, or the first few: the same on every machine, whatever the version of any library.

    Pixels are noise of several grains; numbers have unit norm along the last axis; ids are spread over the vocabulary,
    and where an input counts what another holds they are 0 or 1, which all graphs take.

    Args:
        graph: Whose.
        sizes: As `fixed_sizes` gave them.
        num_inputs: How many of those.
    """
    rows = _rows_of(graph)
    num_counted = min(_FEW, *(sizes[spec.name][0] for spec in graph.inputs))
    drawn = {}
    for index, spec in enumerate(graph.inputs):
        first, *others = sizes[spec.name]
        shape = (min(num_inputs, first) if spec.shape[0] == rows else first, *others)
        drawn[spec.name] = _draw(spec, shape, num_ids=spec.num_ids or num_counted, seed=index)
    return drawn


def _draw(spec: TensorSpec, shape: Sequence[int], *, num_ids: int, seed: int) -> Array:
    noise = _hash(shape, seed)
    if spec.dtype == "uint8":
        return _grained((noise >> np.uint64(56)).astype(np.uint8))
    if spec.dtype == "int64":
        return (noise % np.uint64(num_ids)).astype(np.int64)
    values = (noise >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    unit: Array = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return unit


def _hash(shape: Sequence[int], seed: int) -> NDArray[np.uint64]:
    """Whole numbers that look random, each a function of its index alone (the finaliser of SplitMix64)."""
    mixed = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed << 40)
    mixed = (mixed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))).reshape(shape)


def _grained(pixels: Array) -> Array:
    """Images `[N, …, height, width, 3]`, the i-th with blocks of 1, 2, 4, 8 or 16 pixels of one colour."""
    for index, image in enumerate(pixels):
        grain = 1 << index % _NUM_GRAINS
        for axis in [axis for axis in range(image.ndim - 1) if image.shape[axis] > grain]:
            image[...] = np.take(image, np.arange(image.shape[axis]) // grain * grain, axis=axis)
    return pixels


def sample_rows(output: Array) -> Array:
    """`[rows, values]`: at most 256 numbers of each row, spread evenly; thousands tell no more."""
    rows = output.reshape(len(output), -1)
    step = -(-rows.shape[1] // _NUM_SAMPLED)
    return rows[:, :: step | 1] if step > 1 else rows  # odd, so as not to meet the same channels again and again


def relative_difference(found: Array, expected: Array) -> float:
    """Norm of the difference by the norm of what is expected; NaN where either holds anything but numbers.

    Args:
        found: Of the engine.
        expected: Of torch.
    """
    wanted = expected.astype(np.float64)
    difference = float(np.linalg.norm(found.astype(np.float64) - wanted))
    return difference / max(float(np.linalg.norm(wanted)), _LEAST_NORM)


def check_agreement(
    engine: Engine, graph: Graph, references: References, *, num_inputs: int = NUM_INPUTS
) -> Mapping[str, float]:
    """Compare an engine's outputs with what they must be.

    Args:
        engine: Of the graph.
        graph: What it computes.
        references: What it must give.
        num_inputs: On how many inputs.

    Returns:
        The relative difference of each output.

    Raises:
        WrongNumbersError: One is beyond the bound of the engine's precision, or the engine does not run.
    """
    try:
        outputs = engine.run(draw_inputs(graph, references.sizes, num_inputs=num_inputs))
    except EngineError as error:
        raise WrongNumbersError(graph.name, f"{error.detail} {error.facts.get('reason', '')}".strip()) from error
    found = {name: sample_rows(outputs[name]) for name in graph.outputs}
    # Rows come first, and those of few inputs are the first of those of many.
    expected = {name: references.outputs[name][: len(found[name])] for name in graph.outputs}
    differences = {name: relative_difference(found[name], expected[name]) for name in graph.outputs}
    bound = BOUNDS[engine.info.precision]
    if not all(difference <= bound for difference in differences.values()):  # NaN is no agreement either
        raise WrongNumbersError(graph.name, f"differences {differences}, bound {bound}")
    return differences
