"""A batch that fails is halved until the culprit stands alone, so that no input takes its neighbours with it.

Where both halves fail alike, an input that was encoded before is tried again: if it fails too, the encoder is at fault
and not its inputs, and halving further would only repeat the failure. Before any input was encoded, two halves that
fail alike are taken for that.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from plumbline_models.core.errors import EngineError, PlumblineError, RequestError
from plumbline_models.core.protocols import Encoder, Prepared, Row
from plumbline_serve.causes import release

log = logging.getLogger(__name__)

RowOrError: TypeAlias = Row | PlumblineError


@dataclass(frozen=True, slots=True)
class BatchRows:
    """What became of a batch."""

    rows: Sequence[RowOrError]
    """A row or an error for each input, in order."""
    is_broken: bool
    """Whether the encoder is at fault: nothing was encoded, nor an input that had been encoded before."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: PlumblineError
    kind: type[Exception]


class HalvingEncoder:
    """Runs an encoder's batches; as many threads may call it as the encoder has streams."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._proven: tuple[Prepared] | None = None
        """The cheapest input that was encoded so far."""

    def encode_each(self, inputs: Sequence[Prepared]) -> BatchRows:
        """Encode inputs of one bucket; raises nothing."""
        rows = self._rows(inputs, self._run(inputs))
        self._remember(inputs, rows)
        is_at_fault = all(isinstance(row, PlumblineError) and not isinstance(row, RequestError) for row in rows)
        return BatchRows(rows, is_broken=is_at_fault and not self._still_encodes())

    def _rows(self, inputs: Sequence[Prepared], found: Sequence[RowOrError] | _Failure) -> Sequence[RowOrError]:
        if not isinstance(found, _Failure):
            return found
        if len(inputs) == 1:
            return [found.error]
        middle = len(inputs) // 2
        halves = inputs[:middle], inputs[middle:]
        first, second = (self._run(half) for half in halves)
        if isinstance(first, _Failure) and isinstance(second, _Failure):
            if first.kind is second.kind and not self._still_encodes():
                return [found.error] * len(inputs)
        else:
            self._remember(*((halves[1], second) if isinstance(first, _Failure) else (halves[0], first)))
        return [*self._rows(halves[0], first), *self._rows(halves[1], second)]

    def _run(self, inputs: Sequence[Prepared]) -> Sequence[RowOrError] | _Failure:
        key = self._encoder.key
        try:
            rows = self._encoder.encode(inputs)
        except Exception as error:
            log.exception("encoder %s failed on a batch of %d", key, len(inputs))
            release(error)
            shown = EngineError("The encoder failed on this input.", encoder=key, cause=repr(error))
            return _Failure(error if isinstance(error, PlumblineError) else shown, type(error))
        if len(rows) == len(inputs):
            return rows
        lost = EngineError("The encoder lost a part of the batch.", got=len(rows), sent=len(inputs))
        return _Failure(lost, EngineError)

    def _still_encodes(self) -> bool:
        """Whether the encoder makes a row of an input that it made one of before."""
        if self._proven is None:
            return False
        found = self._run(self._proven)
        return not isinstance(found, _Failure) and not isinstance(found[0], PlumblineError)

    def _remember(self, inputs: Sequence[Prepared], rows: Sequence[RowOrError] | _Failure) -> None:
        if isinstance(rows, _Failure):
            return
        encoded = [each for each, row in zip(inputs, rows, strict=True) if not isinstance(row, PlumblineError)]
        candidates = [*(self._proven or ()), *encoded]
        if candidates:
            self._proven = (min(candidates, key=self._encoder.cost),)
