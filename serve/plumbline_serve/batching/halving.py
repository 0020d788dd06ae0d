"""A batch that fails is halved until the culprit stands alone, so that no input takes its neighbours with it."""

import logging
from collections.abc import Sequence

from plumbline_models.core.errors import EngineError, PlumblineError
from plumbline_models.core.protocols import Encoder, Prepared, Row

log = logging.getLogger(__name__)


def encode_each(encoder: Encoder, inputs: Sequence[Prepared]) -> Sequence[Row | PlumblineError]:
    """Encode inputs of one bucket; raises nothing.

    Returns:
        A row or an error for each input, in order.
    """
    try:
        rows = encoder.encode(inputs)
        if len(rows) == len(inputs):
            return rows
        error: PlumblineError = EngineError("The encoder lost a part of the batch.", got=len(rows), sent=len(inputs))
    except PlumblineError as raised:
        error = raised
    except Exception:
        log.exception("encoder %s failed on a batch of %d", encoder.key, len(inputs))
        error = EngineError("The encoder failed on this input.", encoder=encoder.key)
    if len(inputs) == 1:
        return [error]
    middle = len(inputs) // 2
    return [*encode_each(encoder, inputs[:middle]), *encode_each(encoder, inputs[middle:])]
