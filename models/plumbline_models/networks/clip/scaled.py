"""A text encoder whose encodings carry the checkpoint's logit scale."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from plumbline_models.core.errors import PlumblineError, SetupError, StateDictError
from plumbline_models.core.protocols import Encoder, EncoderInfo, Encoding, Preprocessed
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.wrapped import WrappedTextEncoder
from plumbline_models.weights.scalars import read_scalars

LOGIT_SCALE: Final = "logit_scale"


class ScaledTextEncoder(WrappedTextEncoder):
    """Another encoder's encodings times `exp(logit_scale)`; its engine is shared, its encodings are not.

    The scale travels as the length of the encoding: what scores need not have the weights at hand.

    Args:
        inner: A text encoder of unit-norm encodings.
        spec: Whose weights hold the scale.
    """

    def __init__(self, inner: Encoder, spec: ClipSpec) -> None:
        super().__init__(inner)
        self._spec = spec
        self._scale: float | None = None

    @property
    def key(self) -> str:
        """The inner encoder's, and that its encodings are scaled."""
        return f"{self.inner.key}+scaled"

    def load(self) -> None:
        """Load the inner encoder and read the scale.

        Raises:
            StateDictError: The checkpoint has no `logit_scale`, or none that is a number.
        """
        super().load()
        if self._scale is None:
            self._scale = _read_scale(self._spec)

    def info(self) -> EncoderInfo:
        """The inner encoder's, under this key, with the scale."""
        found = self.inner.info()
        return replace(found, key=self.key, notes={**found.notes, "exp_logit_scale": f"{self._loaded_scale:.6g}"})

    def encode(self, batch: Sequence[Preprocessed]) -> Sequence[Encoding | PlumblineError]:
        """Encode with the inner encoder, and scale."""
        scale = np.float32(self._loaded_scale)
        encodings = self.inner.encode(batch)
        return [each if isinstance(each, PlumblineError) else scale * each for each in encodings]

    @property
    def _loaded_scale(self) -> float:
        if self._scale is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._scale


def _read_scale(spec: ClipSpec) -> float:
    found = read_scalars(spec.fetch(), {LOGIT_SCALE})
    if LOGIT_SCALE not in found:
        raise StateDictError(f"The checkpoint {spec.source} has no {LOGIT_SCALE}.", source=spec.source)
    try:
        scale = math.exp(found[LOGIT_SCALE])
    except OverflowError:
        scale = math.inf
    if not 0 < scale < math.inf:
        raise StateDictError(f"The checkpoint {spec.source} has no usable {LOGIT_SCALE}.", source=spec.source)
    return scale
