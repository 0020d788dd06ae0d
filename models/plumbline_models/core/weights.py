"""The seam to weights: whether everything that an encoder will read can be had, known before anything is loaded."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

Seek: TypeAlias = Literal["here", "anywhere", "fetch"]
"""How far to look: on this machine only; beyond it, asking the hub for what is not here; or fetching it."""


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """What decides how much memory an encoder takes."""

    num_weights: int
    num_inputs: int
    """Numbers that its largest batch of usual inputs gives the engine."""


class Checkpoint(Protocol):
    """Weights and what belongs to them, by name."""

    def check(self, seek: Seek) -> None:
        """Look at everything that will be read, as far as names, sizes and headers tell; loads no weights.

        Raises:
            SetupError: Something cannot be had or used; what is only not here yet is no error while it could be.
        """
        ...


@runtime_checkable
class ReadsWeights(Protocol):
    """An encoder whose weights can be checked beforehand; those of other packages need not be."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What it reads."""
        ...


@runtime_checkable
class HasSize(Protocol):
    """An encoder that says its size beforehand; those of other packages need not."""

    def size(self) -> EncoderSize | None:
        """As far as headers of files tell; None where the weights are not on this machine.

        Raises:
            SetupError: They are not usable.
        """
        ...
