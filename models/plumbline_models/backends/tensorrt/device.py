"""The GPU as the engines of one process share it: three streams, one piece of scratch memory, one lock.

Engines launch on one compute stream, so that scratch memory can be shared: of all engines the largest need counts, not
the sum. Copies have streams of their own in each direction, so that one encoder's batch is copied while another's is
computed.
"""

import functools
import threading
from dataclasses import dataclass, field

import torch

from plumbline_models.backends.splitting import OutOfDeviceMemoryError

_ALIGNMENT = 1 << 20  # growing in steps keeps memory from moving for every larger shape


class GrowingMemory:
    """A piece of memory that grows when more is needed; growing moves it.

    Args:
        is_pinned: Of the host, where copies to and from the device do not stop either; else of the device.
    """

    def __init__(self, *, is_pinned: bool = False) -> None:
        self._is_pinned = is_pinned
        self._memory: torch.Tensor | None = None
        self.generation = 0
        """Counts how often it moved."""

    def take(self, num_bytes: int) -> torch.Tensor:
        """`[num_bytes]` uint8 at its beginning; what was taken before is the same memory.

        Raises:
            OutOfDeviceMemoryError: There is no room; what was there before is kept.
        """
        if self._memory is None or self._memory.numel() < num_bytes:
            needed = -(-max(num_bytes, 1) // _ALIGNMENT) * _ALIGNMENT
            try:
                self._memory = self._allocate(needed)
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                raise OutOfDeviceMemoryError from error
            self.generation += 1
        return self._memory[:num_bytes]

    def _allocate(self, num_bytes: int) -> torch.Tensor:
        if self._is_pinned:
            return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
        return torch.empty(num_bytes, dtype=torch.uint8, device="cuda")


@dataclass(frozen=True, slots=True)
class GpuLane:
    """What the engines of a process share."""

    compute: torch.cuda.Stream = field(default_factory=torch.cuda.Stream)
    upload: torch.cuda.Stream = field(default_factory=torch.cuda.Stream)
    download: torch.cuda.Stream = field(default_factory=torch.cuda.Stream)
    scratch: GrowingMemory = field(default_factory=GrowingMemory)
    launching: threading.Lock = field(default_factory=threading.Lock)
    """Held from binding scratch memory until a batch is launched."""


_MAKING = threading.Lock()  # encoders load side by side, and a cache alone would let each make a lane of its own


def gpu_lane() -> GpuLane:
    """The lane of this process, on torch's current CUDA device."""
    with _MAKING:
        return _make_lane()


@functools.cache
def _make_lane() -> GpuLane:
    torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return GpuLane()
