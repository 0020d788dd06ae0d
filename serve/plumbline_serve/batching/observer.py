"""What batchers tell the metrics."""

from typing import Protocol

from plumbline_serve.batching.lanes import Lane


class BatchObserver(Protocol):
    """What a batcher tells the metrics."""

    def queued(self, key: str, lane: Lane, num_items: int) -> None:
        """The lane now holds that many inputs."""
        ...

    def batch(self, key: str, num_items: int, seconds: float) -> None:
        """A batch of that size was computed."""
        ...

    def broke(self, key: str) -> None:
        """A batch failed through the encoder's fault, not that of its inputs."""
        ...

    def waited(self, seconds: float) -> None:
        """An input left the queue after that long."""
        ...

    def expired(self, stage: str) -> None:
        """An input's deadline passed in this stage."""
        ...
