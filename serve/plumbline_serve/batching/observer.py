"""What batchers tell the metrics."""

from typing import Protocol

from plumbline_serve.scheduling.request_context import Priority


class BatchObserver(Protocol):
    """What a batcher tells the metrics."""

    def queued(self, key: str, lane: Priority, num_items: int) -> None:
        """A lane has changed.

        Args:
            key: Of the encoder.
            lane: Of its batcher, by priority.
            num_items: Inputs that the lane holds now.
        """
        ...

    def batch(self, key: str, num_items: int, seconds: float, *, num_unwanted: int) -> None:
        """A batch was computed.

        Args:
            key: Of the encoder.
            num_items: Its inputs.
            seconds: What it took.
            num_unwanted: Inputs whose callers had gone, or whose deadlines had passed, by its end.
        """
        ...

    def broke(self, key: str) -> None:
        """A batch failed through the encoder's fault, not that of its inputs."""
        ...

    def waited(self, seconds: float) -> None:
        """The batch of an input began after that long."""
        ...

    def expired(self, stage: str) -> None:
        """An input's deadline passed in this stage."""
        ...
