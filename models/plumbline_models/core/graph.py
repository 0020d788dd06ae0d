"""What is compiled: a graph's inputs, outputs and weights, described without any framework."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from plumbline_models.core.arrays import Array, Pixels

DType: TypeAlias = Literal["uint8", "int64", "float32"]
Preprocess: TypeAlias = Callable[[Pixels], Mapping[str, Array]]
"""An image to inputs by name, a batch of one. Raises `ImageError` for an image that cannot be resized."""


@dataclass(frozen=True, slots=True)
class Dim:
    """A dimension that varies from batch to batch, within bounds that a compiler may rely on."""

    name: str
    low: int
    typical: int
    high: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One graph input: name, dtype, and a shape in which `Dim` stands where it varies."""

    name: str
    dtype: DType
    shape: tuple[int | Dim, ...]
    num_ids: int | None = None
    """Of a vocabulary's ids: how many there are. None where whole numbers are something else."""


@dataclass(frozen=True, slots=True)
class ShippedForm:
    """Where the exported form of a graph lies, without its weights, and what reads the weights that it is bound to.

    Args:
        folder: Holds what `plumbline_training.export_embedded` wrote; may be missing, or of other sources.
        read_weights: Gives float32 arrays by name, without any framework.
    """

    folder: Path
    read_weights: Callable[[], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that a backend can compile.

    Args:
        name: What it computes, for example `clip_image`.
        inputs: In the order of the module's arguments.
        outputs: In the order of the module's results.
        fingerprint: Hex sha256 over the weights, the architecture and the version of the graph's code; with it
            a cached engine is found without loading any weights.
        build: Makes the `torch.nn.Module` in eval mode, in float32 or the weights' own precision; called only when
            nothing is cached.
        output_shapes: Of each output, batch first, with the `Dim`s of the inputs; empty where not stated.
            Compilers find shapes themselves; the `fake` backend has only this.
        exceeds_fp16: Whether values inside may be larger than fp16 holds; compilers take bf16 in its place.
        fillable: Names of first dimensions that a backend may enlarge so as to meet few sizes: it repeats the last
            entry of every input that begins with one, and drops what comes of it from every output that does.
        preprocess: Of a graph whose first output is an image's embedding of unit norm: what int8 and fp8 are
            calibrated and measured with. Other graphs have no such form.
        shipped: Where its exported form came with the weights; None: it has to be exported.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    fingerprint: str
    build: Callable[[], Any]
    output_shapes: tuple[tuple[int | Dim, ...], ...] = ()
    exceeds_fp16: bool = False
    fillable: frozenset[str] = frozenset()
    preprocess: Preprocess | None = None
    shipped: ShippedForm | None = None
