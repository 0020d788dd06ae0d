"""What batchers tell the metrics."""

from typing import Protocol

from plumbline_serve.batching.lanes import Lane


class BatchObserver(Protocol):
    """What a batcher tells the metrics."""

    def queued(self, key: str, lane: Lane, num_items: int) -> None:
        """A lane has changed.

        Args:
            key: Of the encoder.
            lane: Of its batcher.
            num_items: Inputs that the lane holds now.
        """
        ...

    def batch(self, key: str, num_items: int, seconds: float) -> None:
        """A batch was computed.

        Args:
            key: Of the encoder.
            num_items: Its inputs.
            seconds: What it took.
        """
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
