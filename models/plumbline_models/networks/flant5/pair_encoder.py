"""The pair half of CLIP-FlanT5: how likely the answer is, given an image's rows and a caption's question.

Its encoder reads image and caption together, in both directions, so nothing of it can be shared between captions.
"""

import hashlib
import math
from collections.abc import Hashable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import numpy as np

from plumbline_models.core.arrays import Array, Pixels, TokenIds
from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError, SetupError, TextTooLongError
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Engine, Origin, PairInput
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.image_encoder import PACKAGES, Aspect
from plumbline_models.networks.likelihood import AnswerLikelihood, read_likelihoods
from plumbline_models.networks.warming import require_numbers
from plumbline_models.text.questions import RIVAL_ANSWER, QuestionTemplate

if TYPE_CHECKING:
    from plumbline_models.networks.flant5.score_module import FlanT5Score
from dataclasses import dataclass

from plumbline_models.networks.flant5.image_encoder import ImageTokens

TAIL_STEP: Final = 8
ANSWER_STEP: Final = 2
"""Tokens are filled up to multiples of these, so that an engine meets few shapes."""


@dataclass(frozen=True, slots=True)
class PreprocessedPair:
    """A caption in the words of the question, and the image that it is held against."""

    image_encodings: ImageTokens
    tail_ids: TokenIds
    """`[L]`: all that stands behind the image."""
    answer_ids: TokenIds
    """`[K]`, end-of-sequence last."""


def arrange_pairs(batch: Sequence[PreprocessedPair], head_ids: TokenIds, start_id: int) -> dict[str, Array]:
    """The inputs of `flant5_score`.

    Args:
        batch: At least one pair.
        head_ids: `[H]`: all that stands before the image.
        start_id: What the decoder reads first.
    """
    answer_ids = _pad([pair.answer_ids for pair in batch], ANSWER_STEP)
    read_ids = np.roll(answer_ids, 1, axis=1)
    read_ids[:, 0] = start_id
    return {
        "image_encodings": np.stack([pair.image_encodings for pair in batch]).astype(np.float32, copy=False),
        "head_ids": np.tile(head_ids, (len(batch), 1)),
        "tail_ids": _pad([pair.tail_ids for pair in batch], TAIL_STEP),
        "read_ids": read_ids,
        "answer_ids": answer_ids,
    }


def _pad(rows: Sequence[TokenIds], step: int) -> TokenIds:
    """Rows side by side, filled up with 0 to a multiple of `step`, so that an engine meets few shapes."""
    length = math.ceil(max(len(row) for row in rows) / step) * step
    padded = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


MAX_HEAD_TOKENS: Final = 256
"""Of the question before the image; the longest has 35 with the tokenizer of Flan-T5."""
MAX_TAIL_TOKENS: Final = 1024
"""Of the question behind the image. The published program cuts prompts at 2048, and so cuts the question's end off."""
MAX_ANSWER_TOKENS: Final = 256

_TYPICAL_TAIL_TOKENS = 32
_TAIL_BUCKET = 16
_CHEAP_ANSWER_TOKENS = 32  # of a longer answer, the decoder counts
_MAX_BATCH = 32
_MAX_BIAS_BYTES = 1 << 29  # of a batch's attention bias, its largest array: keeps batches of large checkpoints small


class FlanT5PairEncoder:
    """Asks the question about pairs of image rows and captions.

    Args:
        checkpoint: Whose encoder and decoder.
        backend: Compiles them.
        asking: The question and the answer.
        aspect: As the image encoder has it: the same image and caption give another row with another one.
    """

    kind: EncoderKind = "pair"

    def __init__(
        self,
        checkpoint: FlanT5Checkpoint,
        backend: Backend,
        *,
        template: QuestionTemplate,
        aspect: Aspect | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._backend = backend
        self._template = template
        self._aspect = aspect
        self._engine: Engine | None = None
        self._info: EncoderInfo | None = None

    @property
    def key(self) -> str:
        """The checkpoint's label, digest of the wording and aspect where they are not the usual, then `/pair`."""
        wording = hashlib.sha256(repr(self._template).encode()).hexdigest()[:8]
        variant = ("" if self._template == QuestionTemplate() else f"+{wording}") + (
            f"+{self._aspect}" if self._aspect else ""
        )
        return f"{self._checkpoint.label}{variant}/pair"

    @property
    def max_batch_cost(self) -> float:
        """Pairs of typical length."""
        return float(self._max_batch)

    @cached_property
    def _max_batch(self) -> int:
        num_rows = self._num_rows(_TYPICAL_TAIL_TOKENS)
        bias_bytes = self._checkpoint.t5_arch.num_heads * num_rows**2 * 4
        return max(1, min(_MAX_BATCH, _MAX_BIAS_BYTES // bias_bytes))

    def preprocess(self, raw: Pixels | str | PairInput) -> PreprocessedPair:
        """Tokenise the caption's question and answer.

        Raises:
            TextTooLongError: More tokens than are read.
            InvalidFieldError: It is no pair, or the caption is not valid Unicode.
        """
        if not isinstance(raw, PairInput):
            raise InvalidFieldError("This encoder takes pairs.", kind=type(raw).__name__)
        pieces = self._checkpoint.pieces
        tail_ids = pieces.encode(self._template.tail(raw.caption))
        answer_ids = self._fixed_answer
        if answer_ids is None:
            answer_ids = pieces.encode(self._template.answer_for(raw.caption))
        for ids, limit in ((tail_ids, MAX_TAIL_TOKENS), (answer_ids, MAX_ANSWER_TOKENS)):
            if len(ids) > limit:
                raise TextTooLongError("The text has more tokens than are read.", num_tokens=len(ids), limit=limit)
        return PreprocessedPair(raw.image_encoding, tail_ids, answer_ids)

    def load_preprocessing(self) -> None:
        """Prepare one pair, which reads tokenizer and sizes.

        Raises:
            CheckpointError: It cannot be had.
        """
        self.cost(self.preprocess(PairInput(caption="", image_encoding=np.zeros((1, 1), dtype=np.float32))))

    def bucket(self, preprocessed: PreprocessedPair) -> Hashable:
        """Pairs of about the same length."""
        num_tail = math.ceil(len(preprocessed.tail_ids) / _TAIL_BUCKET)
        return num_tail, math.ceil(len(preprocessed.answer_ids) / ANSWER_STEP)

    def cost(self, preprocessed: PreprocessedPair) -> float:
        """Attention grows with the square of the length, and so does the memory that it takes."""
        ratio = self._num_rows(len(preprocessed.tail_ids)) / self._num_rows(_TYPICAL_TAIL_TOKENS)
        return max(1.0, ratio**2, len(preprocessed.answer_ids) / _CHEAP_ANSWER_TOKENS)

    @property
    def checkpoint(self) -> FlanT5Checkpoint:
        """What it reads."""
        return self._checkpoint

    def origin(self) -> Origin:
        """Of the checkpoint."""
        return self._checkpoint.origin

    def load(self) -> None:
        """Compile or fetch the engine and run one pair through it.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
            EngineError: The graph does not compile, or gives no numbers.
        """
        if self._engine is not None:
            return
        engine = self._backend.compile(self._graph())
        arch, tower = self._checkpoint.t5_arch, self._checkpoint.tower_arch
        blank = np.zeros((tower.num_patches, arch.width), dtype=np.float32)
        pair = self.preprocess(PairInput(caption="", image_encoding=blank))
        require_numbers(engine.run(self._arrange([pair])).values(), self, engine.info)
        self._engine, ran = engine, engine.info
        self._info = EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch="clip-flant5",
            source=self._checkpoint.origin.source,
            licence=self._checkpoint.origin.licence,
            sha256=self._checkpoint.sha256,
            dim=arch.width,
            backend=ran.backend,
            precision=ran.precision,
            device=ran.device,
            notes={
                "question": self._template.question,
                "answer": self._template.answer,
                "conversation": self._template.conversation,
                "scored": f"all answer tokens with end-of-sequence, over {arch.num_tokens} tokens",
            },
            num_streams=ran.num_streams,
        )

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[PreprocessedPair]) -> Sequence[AnswerLikelihood | PlumblineError]:
        """Read off the likelihood of each answer.

        Returns:
            A likelihood for each pair, or an error where the engine gave no number.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._engine is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        size = self._max_batch
        return [
            likelihood
            for first in range(0, len(batch), size)
            for likelihood in self._run(self._engine, batch[first : first + size])
        ]

    def _run(self, engine: Engine, batch: Sequence[PreprocessedPair]) -> list[AnswerLikelihood | PlumblineError]:
        return read_likelihoods(engine.run(self._arrange(batch)), [len(pair.answer_ids) for pair in batch])

    def _arrange(self, batch: Sequence[PreprocessedPair]) -> dict[str, Array]:
        return arrange_pairs(batch, self._head_ids, self._checkpoint.t5_arch.start_id)

    @cached_property
    def _fixed_answer(self) -> TokenIds | None:
        """The answer's tokens where it does not depend on the caption."""
        answer = self._template.answer_for("")
        return self._checkpoint.pieces.encode(answer) if answer == self._template.answer else None

    @cached_property
    def _head_ids(self) -> TokenIds:
        return self._checkpoint.pieces.encode(self._template.head)

    def _num_rows(self, num_tail: int) -> int:
        return len(self._head_ids) + self._checkpoint.tower_arch.num_patches + num_tail

    def _graph(self) -> Graph:
        checkpoint, arch = self._checkpoint, self._checkpoint.t5_arch
        rival_id = int(checkpoint.pieces.encode(RIVAL_ANSWER)[0])
        high = self._max_batch
        batch = Dim("batch", 1, high, high)
        head = Dim("head", 1, 35, MAX_HEAD_TOKENS)
        tail = Dim("tail", TAIL_STEP, _TYPICAL_TAIL_TOKENS, MAX_TAIL_TOKENS)
        answer = Dim("answer", ANSWER_STEP, 2 * ANSWER_STEP, MAX_ANSWER_TOKENS)
        facts = repr((arch, checkpoint.sha256, rival_id))
        return Graph(
            name="flant5_score",
            inputs=(
                TensorSpec("image_encodings", "float32", (batch, checkpoint.tower_arch.num_patches, arch.width)),
                TensorSpec("head_ids", "int64", (batch, head)),
                TensorSpec("tail_ids", "int64", (batch, tail)),
                TensorSpec("read_ids", "int64", (batch, answer)),
                TensorSpec("answer_ids", "int64", (batch, answer)),
            ),
            outputs=("answer_log_probs", "rival_log_prob"),
            fingerprint=fingerprint("flant5_score", facts, packages=PACKAGES),
            build=partial(_build, checkpoint, rival_id),
            output_shapes=((batch, answer), (batch, 1)),
            fillable=frozenset({batch.name}),
            exceeds_fp16=True,  # T5 was trained in bf16; its feed-forward layers are known to overflow in fp16
        )


def _build(checkpoint: FlanT5Checkpoint, rival_id: int) -> "FlanT5Score":
    from plumbline_models.networks.flant5.weights import build_score_graph  # noqa: PLC0415 - torch, when compiling

    return build_score_graph(checkpoint, rival_id)
