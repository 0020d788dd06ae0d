"""What CLIP's two encoders have in common."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar, Final, Generic, TypeVar

import numpy as np

from plumbline_models.core.arrays import Array, EmbeddingsND, Pixels
from plumbline_models.core.errors import EngineError, PlumblineError, SetupError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Encoding, Engine, Origin, PairInput
from plumbline_models.networks.clip.graph import MAX_BATCH
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.warming import require_numbers
from plumbline_models.weights.digest import sha256_of

CPU_BATCH_GFLOP: Final = 160.0
"""Work that a CPU batch may hold: a second or two. Larger ones give no more rows a second, and others wait."""
CPU_BATCH_MIN: Final = 4
_WARM_BATCHES: Final = (1, 4)
_NO_NUMBER: Final = "The engine gave no number for this input."
PreprocessedT = TypeVar("PreprocessedT")


class ClipEncoder(ABC, Generic[PreprocessedT]):
    """An encoder of unit-norm embeddings.

    Args:
        spec: The CLIP.
        backend: Compiles the graph.
    """

    kind: EncoderKind
    input_name: ClassVar[str]
    output_name: ClassVar[str]

    def __init__(self, spec: ClipSpec, backend: Backend) -> None:
        self.spec = spec
        self._backend = backend
        self._engine: Engine | None = None
        self._info: EncoderInfo | None = None
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """Such as `ViT-B-32-quickgelu@6af55455/image` or `mini-clip/text`."""
        return f"{self.spec.name}/{self.kind}"

    @property
    def max_batch_cost(self) -> float:
        """Images, or texts of usual length; on a CPU the fewer, the larger the tower is."""
        if self._info is None or not self._info.device.startswith("cpu"):
            return float(MAX_BATCH)
        return float(min(MAX_BATCH, max(CPU_BATCH_MIN, CPU_BATCH_GFLOP // self.gflop)))

    @property
    @abstractmethod
    def gflop(self) -> float:
        """Work of one usual input."""

    @abstractmethod
    def preprocess(self, raw: Pixels | str | PairInput) -> PreprocessedT:
        """Fit or tokenise."""

    def load_preprocessing(self) -> None:
        """Prepare a usual input, which fetches the tokenizer where the architecture names one of the hub.

        Raises:
            CheckpointNotFoundError: The tokenizer is neither on this machine nor to be had from the hub.
        """
        self._sample()

    @abstractmethod
    def bucket(self, preprocessed: PreprocessedT) -> Hashable:
        """Only inputs of one bucket share a batch."""

    @abstractmethod
    def cost(self, preprocessed: PreprocessedT) -> float:
        """In units of a usual input."""

    @abstractmethod
    def _graph(self) -> Graph: ...

    @abstractmethod
    def _stack(self, batch: Sequence[PreprocessedT]) -> Array: ...

    @abstractmethod
    def _sample(self) -> PreprocessedT:
        """A usual input, to warm the engine with."""

    @abstractmethod
    def _notes(self) -> Mapping[str, str]: ...

    @property
    def checkpoint(self) -> ClipSpec:
        """What it reads."""
        return self.spec

    def origin(self) -> Origin:
        """Of the weights."""
        return self.spec.origin

    def load(self) -> None:
        """Compile or fetch the engine and run batches of one and of several.

        Raises:
            CheckpointError: The weights cannot be had or do not fit.
            EngineError: The graph does not compile or run, or gives no numbers.
        """
        with self._lock:
            if self._engine is not None:
                return
            engine = self._backend.compile(self._graph())
            sample = self._sample()
            for size in _WARM_BATCHES:
                require_numbers(engine.run({self.input_name: self._stack([sample] * size)}).values(), self, engine.info)
            self._info = self._describe(engine)
            self._engine = engine

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[PreprocessedT]) -> Sequence[Encoding | PlumblineError]:
        """Encode inputs of one bucket.

        Returns:
            `[D]` float32 of unit norm for each, or an error where the engine gave something else than numbers.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._engine is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        rows: list[Encoding | PlumblineError] = []
        for first in range(0, len(batch), MAX_BATCH):
            outputs = self._engine.run({self.input_name: self._stack(batch[first : first + MAX_BATCH])})
            rows.extend(self._split(np.asarray(outputs[self.output_name], dtype=np.float32)))
        return rows

    def _split(self, embeddings: EmbeddingsND) -> list[Encoding | PlumblineError]:
        return [row if np.isfinite(row).all() else EngineError(_NO_NUMBER, encoder=self.key) for row in embeddings]

    def _describe(self, engine: Engine) -> EncoderInfo:
        spec, ran = self.spec, engine.info
        return EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch=spec.arch.name,
            source=spec.source,
            licence=spec.licence,
            sha256=sha256_of(spec.fetch()),
            dim=spec.arch.embed_dim,
            backend=ran.backend,
            precision=ran.precision,
            device=ran.device,
            notes=self._notes(),
            context_length=spec.arch.context_length if self.kind == "text" else None,
            num_streams=ran.num_streams,
        )
