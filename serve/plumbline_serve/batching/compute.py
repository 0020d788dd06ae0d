"""Where encoders run, as the pipeline sees it: in this process, or one hop away."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Encoding, Preprocessed
from plumbline_serve.concurrency import Deadline


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What came back for one call: a row or an error for each input, in order, and where the time went."""

    rows: Sequence[Encoding | PlumblineError]
    queue_s: float
    """From the call to the start of its first batch."""
    compute_s: float
    """From the start of its first batch to the end of its last."""


class Compute(Protocol):
    """Runs encoders by key."""

    async def encode(self, key: str, inputs: Sequence[Preprocessed], deadline: Deadline) -> EncodedBatch:
        """Encode inputs, sharing batches with every other caller.

        Raises:
            OverloadedError: The encoder's queue has no room for them.
            NotReadyError: The encoder is not loaded yet.
        """
        ...

    def expect(self, key: str, num_inputs: int) -> None:
        """Announce inputs that are being prepared, so that a batch may wait for them a little.

        Negative numbers take an announcement back.
        """
        ...

    @property
    def is_ready(self) -> bool:
        """Whether encoders are loaded, can be reached, and do their work."""
        ...

    async def infos(self) -> Sequence[EncoderInfo]:
        """What is loaded."""
        ...
