"""One engine's inputs and outputs: pinned on the host, and on the device, where the engine reads and writes."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

import numpy as np
import torch

from plumbline_models.backends.tensorrt.device import GrowingMemory
from plumbline_models.core.arrays import Array

_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "uint8": torch.uint8,
    "int64": torch.int64,
    "float32": torch.float32,
}


class EngineBuffers:
    """Buffers that are used again for every batch; they grow, and outputs on the host are new each time.

    Args:
        names: Of inputs and outputs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._staging = {name: GrowingMemory(is_pinned=True) for name in names}
        self._device = {name: GrowingMemory() for name in names}

    @property
    def generation(self) -> tuple[int, ...]:
        """Changes whenever memory on the device has moved."""
        return tuple(memory.generation for memory in self._device.values())

    def stage(self, name: str, array: Array, num_rows: int) -> torch.Tensor:
        """Copy an input into pinned memory, filled up with rows of zeros.

        Args:
            num_rows: At least as many as the array has.

        Returns:
            `[num_rows, …]` on the host.
        """
        shape = (num_rows, *array.shape[1:])
        pinned = _shaped(self._staging[name], shape, str(array.dtype))
        view = pinned.numpy()
        np.copyto(view[: len(array)], array)
        view[len(array) :] = 0
        return pinned

    def upload(self, name: str, staged: torch.Tensor) -> int:
        """Start copying to the device, on the current stream; the address there.

        Args:
            name: Of the input.
            staged: Its pinned copy.
        """
        target = self._device[name].take(staged.nbytes)
        target.copy_(staged.view(-1).view(torch.uint8), non_blocking=True)
        return target.data_ptr()

    def place(self, name: str, shape: Sequence[int], dtype: str) -> int:
        """Make room for an output on the device; the address there.

        Args:
            name: Of the output.
            shape: As the engine inferred it.
            dtype: Its name in numpy.
        """
        return _shaped(self._device[name], shape, dtype).data_ptr()

    def download(self, name: str, shape: Sequence[int], dtype: str) -> torch.Tensor:
        """Start copying an output to new pinned memory, on the current stream.

        Args:
            name: Of the output.
            shape: As for `place`.
            dtype: As for `place`.
        """
        source = _shaped(self._device[name], shape, dtype)
        # torch keeps pinned memory that was let go, so that a new array costs no call of the driver.
        result = torch.empty(tuple(shape), dtype=_DTYPES[dtype], pin_memory=True)
        return result.copy_(source, non_blocking=True)


def _shaped(memory: GrowingMemory, shape: Sequence[int], dtype: str) -> torch.Tensor:
    kind = _DTYPES[dtype]
    return memory.take(prod(shape) * kind.itemsize).view(kind).view(*shape)
