"""An encoder without a network: what is wrong with an image's pixels, found while it would be preprocessed."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import EncoderInfo, EncoderKind, Origin, PairInput
from plumbline_models.core.source_digest import source_digest
from plumbline_models.images.integrity import Fault, find_faults

Faults: TypeAlias = Mapping[Fault, float]
"""Evidence between 0 and 1, by fault."""
_MAX_BATCH: Final = 1024.0


class IntegrityEncoder:
    """Reads decoded pixels; an image's encoding is the evidence for each fault."""

    kind: EncoderKind = "image"
    key = "integrity/image"
    max_batch_cost = _MAX_BATCH

    def preprocess(self, raw: Pixels | str | PairInput) -> Faults:
        """Look at an image; a millisecond or two.

        Raises:
            InvalidFieldError: It is no image.
        """
        if not isinstance(raw, np.ndarray):
            raise InvalidFieldError("This encoder takes images.", kind=type(raw).__name__)
        return find_faults(raw)

    def load_preprocessing(self) -> None:
        """Nothing is needed."""

    def bucket(self, preprocessed: Faults) -> Hashable:
        """One for all."""
        del preprocessed
        return 0

    def cost(self, preprocessed: Faults) -> float:
        """One each."""
        del preprocessed
        return 1.0

    def origin(self) -> Origin:
        """There are no weights."""
        return Origin(source="no weights", licence="Apache-2.0", is_present=True)

    def load(self) -> None:
        """Nothing is loaded."""

    def info(self) -> EncoderInfo:
        """The digest is that of the code."""
        return EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch="pixel statistics",
            source="no weights",
            licence="Apache-2.0",
            sha256=source_digest("images.integrity"),
            dim=0,
            backend="numpy",
            precision="fp32",
            device="cpu",
        )

    def encode(self, batch: Sequence[Faults]) -> Sequence[Faults | PlumblineError]:
        """What was found."""
        return list(batch)
