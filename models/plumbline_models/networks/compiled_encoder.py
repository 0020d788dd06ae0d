"""What encoders of compiled networks do alike.

An encoder loads under a lock, is warmed up before anyone sees it, cuts a batch into parts that its engine takes,
looks for NaN in what comes out, and describes itself. A network adds what is its own: preprocessing, bucket, cost,
collation, graph, and the facts of its description.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from plumbline_models.core.arrays import Array, Pixels, TokenIds
from plumbline_models.core.engines import Backend, Engine, EngineInfo
from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError, SetupError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EncoderInfo, EncoderKind, Origin, PairInput
from plumbline_models.core.weights import Checkpoint, EncoderSize

OpenBackend: TypeAlias = Callable[[], Backend]

_INPUTS: Final[Mapping[EncoderKind, tuple[type, str]]] = {
    "image": (np.ndarray, "images"),
    "text": (str, "texts"),
    "pair": (PairInput, "pairs"),
}


class NetworkCheckpoint(Checkpoint, Protocol):
    """A network's weights, which say where they come from."""

    @property
    def origin(self) -> Origin:
        """As known without loading or fetching them."""
        ...

    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind; None where they are not on this machine."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What a network adds to the description of its encoder."""

    arch: str
    sha256: str
    """Of the weights."""
    dim: int
    notes: Mapping[str, str]
    context_length: int | None = None
    """Tokens that a text is cut to; None where no text is cut."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Engine
    info: EncoderInfo


CheckpointT = TypeVar("CheckpointT", bound=NetworkCheckpoint)
PreprocessedT = TypeVar("PreprocessedT")
EncodingT = TypeVar("EncodingT")


class CompiledEncoder(ABC, Generic[CheckpointT, PreprocessedT, EncodingT]):
    """An encoder whose network a backend compiles.

    Args:
        checkpoint: Of the network.
        open_backend: Called once, when the encoder is loaded.
    """

    kind: EncoderKind
    warm_up_sizes: ClassVar[Sequence[int]] = (1,)
    """Batches that are run while loading."""

    def __init__(self, checkpoint: CheckpointT, open_backend: OpenBackend) -> None:
        self.checkpoint = checkpoint
        self._open_backend = open_backend
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    @abstractmethod
    def key(self) -> str:
        """Names all that changes what the encoder computes: weights, settings, kind."""

    @property
    @abstractmethod
    def max_batch_cost(self) -> float:
        """The most cost that one batch may carry."""

    @abstractmethod
    def bucket(self, preprocessed: PreprocessedT) -> Hashable:
        """Only inputs of one bucket share a batch."""

    @abstractmethod
    def cost(self, preprocessed: PreprocessedT) -> float:
        """In units of a usual input."""

    @abstractmethod
    def _max_inputs(self) -> int:
        """The most that one run of the engine takes."""

    @abstractmethod
    def _preprocess(self, raw: Any) -> PreprocessedT:
        """Preprocess an input of the right kind."""

    @abstractmethod
    def _usual_input(self) -> PreprocessedT:
        """What the engine is warmed up with."""

    @abstractmethod
    def _graph(self) -> Graph: ...

    @abstractmethod
    def _collate(self, part: Sequence[PreprocessedT]) -> Mapping[str, Array]:
        """The engine's inputs for at least one input."""

    @abstractmethod
    def _read(self, preprocessed: PreprocessedT, outputs: Mapping[str, Array]) -> EncodingT:
        """The encoding of one input.

        Args:
            preprocessed: The input.
            outputs: What the engine gave for it, without the axis of the batch.
        """

    @abstractmethod
    def _facts(self) -> NetworkFacts: ...

    def preprocess(self, raw: Pixels | str | PairInput) -> PreprocessedT:
        """Preprocess one input; needs no weights.

        Raises:
            InvalidFieldError: It is not of the encoder's kind.
            RequestError: The network does not take it.
        """
        kind, plural = _INPUTS[self.kind]
        if not isinstance(raw, kind):
            raise InvalidFieldError(f"This encoder takes {plural}.", kind=type(raw).__name__)
        return self._preprocess(raw)

    def load_preprocessing(self) -> None:
        """Preprocess a usual input, which reads all that preprocessing needs, such as a tokenizer.

        Raises:
            CheckpointError: It cannot be had.
        """
        self.cost(self._usual_input())

    def origin(self) -> Origin:
        """Of the weights."""
        return self.checkpoint.origin

    def size(self) -> EncoderSize | None:
        """Of weights and of the largest batch of usual inputs; None where the weights are not on this machine.

        Raises:
            SetupError: They, or what preprocessing needs, are not usable.
        """
        num_weights = self.checkpoint.num_weights(self.kind)
        if num_weights is None:
            return None
        usual = self._usual_input()
        num_inputs = min(self._max_inputs(), max(1, int(self.max_batch_cost // self.cost(usual))))
        num_each = sum(array.size for array in self._collate([usual]).values())
        return EncoderSize(num_weights, num_inputs * num_each)

    def load(self) -> None:
        """Compile or fetch the engine and warm it up.

        Raises:
            CheckpointError: The weights cannot be had or do not fit.
            EngineError: The graph does not compile or run, or gives NaN or infinite values.
        """
        with self._lock:
            if self._loaded is not None:
                return
            engine = self._compile(self._open_backend())
            self._require_numbers(self._warm_up(engine), engine.info)
            self._loaded = _Loaded(engine, self._describe(engine.info))

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._loaded is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._loaded.info

    def encode(self, batch: Sequence[PreprocessedT]) -> Sequence[EncodingT | PlumblineError]:
        """Encode inputs of one bucket.

        Returns:
            An encoding for each, or an error where it holds NaN or infinite values.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._loaded is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        found: dict[int, EncodingT | PlumblineError] = {}
        for indices in self._parts(batch):
            encodings = self._run(self._loaded.engine, [batch[index] for index in indices])
            found.update(zip(indices, map(self._checked, encodings), strict=True))
        return [found[index] for index in range(len(batch))]

    def _compile(self, backend: Backend) -> Engine:
        return backend.compile(self._graph())

    def _warm_up(self, engine: Engine) -> Iterator[ArrayLike]:
        """Run usual inputs; gives what comes out."""
        preprocessed = self._usual_input()
        for size in self.warm_up_sizes:
            yield from engine.run(self._collate([preprocessed] * size)).values()

    def _parts(self, batch: Sequence[PreprocessedT]) -> Iterable[Sequence[int]]:
        """The inputs of each run of the engine, by their index in the batch."""
        return cut(range(len(batch)), self._max_inputs())

    def _run(self, engine: Engine, part: Sequence[PreprocessedT]) -> Sequence[EncodingT]:
        outputs = engine.run(self._collate(part))
        return [
            self._read(preprocessed, {name: array[index] for name, array in outputs.items()})
            for index, preprocessed in enumerate(part)
        ]

    def _numbers(self, encoding: EncodingT) -> Iterable[Any]:
        """Those of an encoding that must be finite."""
        return (encoding,)

    def _checked(self, encoding: EncodingT) -> EncodingT | PlumblineError:
        if _are_finite(self._numbers(encoding)):
            return encoding
        noun = "pair" if self.kind == "pair" else "input"
        return EngineError(f"The engine gave no number for this {noun}.", encoder=self.key)

    @property
    def _stored_dtype(self) -> DTypeLike:
        """Of large encodings: float16 where the engine computes at less than fp32."""
        return np.float32 if self.info().precision == "fp32" else np.float16

    def _require_numbers(self, found: Iterable[ArrayLike], ran: EngineInfo) -> None:
        if _are_finite(found):
            return
        source = self.origin().source
        raise EngineError(
            f"The encoder {self.key} gives no numbers for a usual input: its weights ({source}) hold NaN or infinite "
            f"values, or leave the range of {ran.precision} on {ran.backend}.",
            encoder=self.key,
            graph=ran.graph,
            source=source,
        )

    def _describe(self, ran: EngineInfo) -> EncoderInfo:
        facts, origin = self._facts(), self.origin()
        return EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch=facts.arch,
            source=origin.source,
            licence=origin.licence,
            sha256=facts.sha256,
            dim=facts.dim,
            backend=ran.backend,
            precision=ran.precision,
            device=ran.device,
            notes=facts.notes,
            context_length=facts.context_length,
            num_streams=ran.num_streams,
        )


def cut(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive parts of at most that size.

    Args:
        indices: What is cut.
        size: At least 1.
    """
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def pad_tokens(texts: Sequence[TokenIds], length: int) -> TokenIds:
    """`[N, length]`: one text per line, padded on the right with 0.

    Args:
        texts: At least one.
        length: At least that of the longest.
    """
    padded = np.zeros((len(texts), length), dtype=np.int64)
    for line, ids in zip(padded, texts, strict=True):
        line[: len(ids)] = ids
    return padded


def _are_finite(found: Iterable[ArrayLike]) -> bool:
    return all(isfinite(each) if isinstance(each, float) else np.isfinite(each).all() for each in found)
