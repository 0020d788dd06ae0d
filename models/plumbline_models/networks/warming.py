"""What an encoder gives for a usual input while it loads: without numbers there it would fail on every request."""

from collections.abc import Iterable

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.protocols import Encoder, EngineInfo


def require_numbers(found: Iterable[Array], encoder: Encoder, ran: EngineInfo) -> None:
    """Look at what the engine gave.

    Args:
        ran: The engine.

    Raises:
        EngineError: There is a NaN or an infinity; the sentence names the encoder and its weights.
    """
    if all(np.isfinite(array).all() for array in found):
        return
    source = encoder.origin().source
    raise EngineError(
        f"The encoder {encoder.key} gives no numbers for a usual input: its weights ({source}) hold NaN or infinite "
        f"values, or leave the range of {ran.precision} on {ran.backend}.",
        encoder=encoder.key,
        graph=ran.graph,
        source=source,
    )
