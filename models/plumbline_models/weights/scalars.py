"""Single numbers that lie beside the tensors of a checkpoint, such as `logit_scale`, read without the tensors."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from plumbline_models.core.errors import StateDictError
from plumbline_models.weights.archive import inspect, tensor_bytes
from plumbline_models.weights.weight_files import files_of

_NUMBERS: Final = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def read_scalars(file: Path, names: Collection[str]) -> dict[str, float]:
    """The numbers of these names that a checkpoint holds; of safetensors without torch, of pickles with it.

    Args:
        file: Weights, or an index of their shards.
        names: Without the prefixes that training puts before them.

    Raises:
        StateDictError: One is no single number.
        CheckpointError: The file cannot be read.
    """
    return {name: value for part in files_of(file) for name, value in _read_part(part, names)}


def _read_part(file: Path, names: Collection[str]) -> Iterator[tuple[str, float]]:
    if inspect(file) != "safetensors":
        from plumbline_models.weights.loading import read_tensors  # noqa: PLC0415 - torch, which unpickles

        for name, tensor in read_tensors(file).items():
            if name in names:
                yield name, _only([float(value) for value in tensor.flatten()], name)
        return
    for full, (kind, stored) in tensor_bytes(file, lambda name: _last(name) in names).items():
        if kind == "BF16":  # the upper half of a float32
            values = (np.frombuffer(stored, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind in _NUMBERS:
            values = np.frombuffer(stored, dtype=np.dtype(_NUMBERS[kind]).newbyteorder("<"))
        else:
            raise StateDictError(f"The checkpoint's {full} is stored as {kind}, not as a number.", name=full)
        yield _last(full), _only([float(value) for value in values], full)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _only(values: list[float], name: str) -> float:
    if len(values) != 1:
        raise StateDictError(f"The checkpoint's {name} is not a single number.", name=name, num_values=len(values))
    return values[0]
