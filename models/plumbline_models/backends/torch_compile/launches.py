"""Runs a compiled module on its device: call by call, or on a GPU as one CUDA graph where a shape comes again.

Launches are recorded here and not by Inductor (`mode="reduce-overhead"`), whose recordings belong to the thread that
made them: engines are warmed up in one thread and run in others (pytorch/pytorch issue 123177).
"""

import functools
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import Tensor

from plumbline_models.backends.buckets import Launch, LaunchPlan
from plumbline_models.backends.splitting import OutOfDeviceMemoryError
from plumbline_models.core.arrays import Array

logger = logging.getLogger(__name__)

Compiled: TypeAlias = Callable[..., tuple[Tensor, ...]]
_UNTIL_RECORDED: Final = 2


class Launcher(Protocol):
    """Runs a compiled module."""

    has_few_shapes: bool
    """Whether batches should be filled up, so that a shape comes again."""
    num_warm_ups: int
    """Runs of a shape until it is as fast as it gets."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run one batch.

        Args:
            arrays: In the order of the module's arguments.

        Returns:
            Its results, owned by the caller.

        Raises:
            OutOfDeviceMemoryError: It does not fit beside what the device holds.
            RuntimeError: It does not compile, or fails.
        """
        ...


class CpuLauncher:
    """Runs a module on the CPU.

    Args:
        compiled: The module.
    """

    has_few_shapes = False
    num_warm_ups = 1

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """As `Launcher.run`.

        Args:
            arrays: In the order of the module's arguments.
        """
        with torch.inference_mode():
            # torch shares memory that it may write to, and warns of any other.
            results = self._compiled(*(torch.from_numpy(a if a.flags.writeable else a.copy()) for a in arrays))
        return [result.clone().numpy() for result in results]


@dataclass(frozen=True, slots=True)
class _Lane:
    """What all engines of a process share: recorded launches use the same memory, so that no two run at a time."""

    stream: torch.cuda.Stream = field(default_factory=torch.cuda.Stream)
    pool: Any = field(default_factory=torch.cuda.graph_pool_handle)
    launching: threading.Lock = field(default_factory=threading.Lock)


_MAKING: Final = threading.Lock()  # encoders load side by side


def _lane() -> _Lane:
    with _MAKING:
        return _make_lane()


@functools.cache
def _make_lane() -> _Lane:
    torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return _Lane()


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recorded launch, and the memory that it reads and writes."""

    launch: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class CudaLauncher:
    """Runs a module on the GPU.

    Args:
        compiled: The module.
        graph: Its name, for the log.
        records: Whether launches are recorded.
    """

    def __init__(self, compiled: Compiled, *, graph: str, records: bool) -> None:
        self.has_few_shapes = records
        self.num_warm_ups = _UNTIL_RECORDED if records else 1
        self._compiled = compiled
        self._graph = graph
        self._records = records
        self._lane = _lane()
        self._plan = LaunchPlan()
        self._recorded: dict[Hashable, _Recording] = {}

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """As `Launcher.run`.

        Args:
            arrays: In the order of the module's arguments.
        """
        staged = [_pinned(array) for array in arrays]
        lane = self._lane
        try:
            with lane.launching, torch.cuda.stream(lane.stream), torch.inference_mode():
                outputs = self._launch(staged)
                results = [_download(output) for output in outputs]
                is_done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                is_done.record()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfDeviceMemoryError from error
        is_done.synchronize()
        return [result.numpy() for result in results]

    def _launch(self, staged: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if not self._records:
            return self._compiled(*map(_upload, staged))
        shapes = tuple(tuple(tensor.shape) for tensor in staged)
        decision = self._plan.decide(shapes)
        for dropped in self._plan.surplus():
            self._recorded.pop(dropped, None)
        if decision is Launch.RECORD and not self._record(shapes, staged):
            decision = Launch.PLAIN
        if decision is Launch.PLAIN:
            return self._compiled(*map(_upload, staged))
        recording = self._recorded[shapes]
        for memory, tensor in zip(recording.inputs, staged, strict=True):
            memory.copy_(tensor, non_blocking=True)
        recording.launch.replay()
        return recording.outputs

    def _record(self, shapes: Hashable, staged: Sequence[Tensor]) -> bool:
        inputs = tuple(map(_upload, staged))
        launch = torch.cuda.CUDAGraph()
        try:
            # Thread-local: what other threads do meanwhile must not spoil it.
            with torch.cuda.graph(
                launch, pool=self._lane.pool, stream=self._lane.stream, capture_error_mode="thread_local"
            ):
                outputs = self._compiled(*inputs)
        except torch.OutOfMemoryError:
            self._plan.forget(shapes)
            raise
        except RuntimeError as error:
            logger.warning("Launches of %s cannot be recorded: %s", self._graph, error, extra={"graph": self._graph})
            self._records = False
            return False
        self._recorded[shapes] = _Recording(launch, inputs, outputs)
        return True


def _pinned(array: Array) -> Tensor:
    """A copy on the host that the device reads by itself."""
    pinned = torch.empty(array.shape, dtype=getattr(torch, str(array.dtype)), pin_memory=True)
    pinned.numpy()[...] = array
    return pinned


def _upload(staged: Tensor) -> Tensor:
    return staged.to("cuda", non_blocking=True)


def _download(output: Tensor) -> Tensor:
    """Starts a copy into new pinned memory, on the current stream."""
    return torch.empty(output.shape, dtype=output.dtype, pin_memory=True).copy_(output, non_blocking=True)
