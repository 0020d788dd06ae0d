"""The encoders of one process, one per key."""

from plumbline_models.core.protocols import Encoder


class EncoderRegistry:
    """Keeps the first encoder of each key, so that scorers that name the same one share it."""

    def __init__(self) -> None:
        self._encoders: dict[str, Encoder] = {}

    def take(self, encoder: Encoder) -> Encoder:
        """Return the encoder that is already kept under this key, or keep this one."""
        return self._encoders.setdefault(encoder.key, encoder)

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Every encoder once, in the order in which they were first taken."""
        return tuple(self._encoders.values())
