"""The tensors of a safetensors file as numpy arrays that lie over the file: no copy, and no torch."""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import CheckpointError
from plumbline_models.weights.archive import StoredTensor, has_scale, quantised, stored_tensors

PLAIN: Final[Mapping[str, type[np.generic]]] = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
"""Of what numbers may be stored as, those that numpy knows; the others take torch to read, but for the next."""
_EIGHT_BITS: Final = "F8_E4M3"
_BIAS, _NUM_FRACTIONS, _NOT_A_NUMBER = 7, 8, 0x7F  # of E4M3: no infinities, and one code for NaN


class MappedTensors(Mapping[str, Array]):
    """Float32 arrays by name; those that are stored as such are pages of the file until they are read.

    Args:
        file: safetensors.

    Raises:
        CheckpointError: The file is damaged.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stored = stored_tensors(file)

    def kind_of(self, name: str) -> str | None:
        """What a tensor is stored as, such as `F32`; None where there is none of this name."""
        return self._stored[name].kind if name in self._stored else None

    def read(self, name: str) -> Array:
        """One tensor as it is stored; writing to it changes this process's copy alone.

        Raises:
            KeyError: There is no such tensor.
            StateDictError: numpy has no type for it.
        """
        stored = self._stored[name]
        if stored.kind not in PLAIN:
            raise quantised(name, stored.kind, path=str(self._file))
        return _map(self._file, stored, np.dtype(PLAIN[stored.kind]))

    def __getitem__(self, name: str) -> Array:
        """One tensor in float32.

        Raises:
            KeyError: There is no such tensor.
            StateDictError: numpy has no type for it, or it means nothing without its scale.
        """
        stored = self._stored[name]
        if stored.kind == _EIGHT_BITS and not has_scale(name, self._stored):
            return _values_of_eight_bits()[_map(self._file, stored, np.dtype(np.uint8))]
        return self.read(name).astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _map(file: Path, stored: StoredTensor, dtype: np.dtype[Any]) -> Array:
    if math.prod(stored.shape) * dtype.itemsize != stored.end - stored.start:
        raise CheckpointError(f"The checkpoint {file.name} is damaged: its header contradicts itself.", path=str(file))
    if stored.start == stored.end:  # there is nothing to map
        return np.zeros(stored.shape, dtype)
    # Copy-on-write, since torch warns of memory that cannot be written.
    mapped = np.memmap(file, dtype, mode="c", offset=stored.start, shape=stored.shape)
    return np.asarray(mapped).view(np.ndarray)


@cache
def _values_of_eight_bits() -> NDArray[np.float32]:
    """`[256]`: what each code of E4M3 means."""
    codes = np.arange(256)
    exponents, fractions = codes >> 3 & 15, codes & 7
    normal = (1 + fractions / _NUM_FRACTIONS) * 2.0 ** (exponents - _BIAS)
    subnormal = fractions / _NUM_FRACTIONS * 2.0 ** (1 - _BIAS)
    values = np.where(exponents == 0, subnormal, normal) * np.where(codes < 128, 1, -1)  # noqa: PLR2004 - the sign's bit
    values[codes & _NOT_A_NUMBER == _NOT_A_NUMBER] = np.nan
    return values.astype(np.float32)
