"""The pair half of CLIP-FlanT5: how likely the answer is, given an image's tokens and a caption's question.

Its encoder reads image and caption together, in both directions, so nothing of it can be shared between captions.
"""

import hashlib
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plumbline_models.core.arrays import Array, TokenIds
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import TextTooLongError
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import EncoderKind, PairInput
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts, pad_tokens
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.image_encoder import ARCH, PACKAGES, Aspect, ImageTokens, shipped_flant5
from plumbline_models.networks.flant5.states import score_state
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.text.questions import RIVAL_ANSWER, SLOT, QuestionTemplate

if TYPE_CHECKING:
    from plumbline_models.networks.flant5.score_module import FlanT5Score

TAIL_STEP: Final = 8
ANSWER_STEP: Final = 2
"""Tokens are padded to multiples of these, so that an engine meets few shapes."""
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


@dataclass(frozen=True, slots=True)
class PreprocessedPair:
    """A caption in the words of the question, and the image that it is scored against."""

    image_encodings: ImageTokens
    tail_ids: TokenIds
    """`[L]`: all that stands behind the image."""
    answer_ids: TokenIds
    """`[K]`, end-of-sequence last."""


class FlanT5PairEncoder(CompiledEncoder[FlanT5Checkpoint, PreprocessedPair, AnswerLikelihood]):
    """Scores the answer to the question about pairs of images and captions.

    Args:
        checkpoint: Whose encoder and decoder.
        backend: Compiles them.
        template: The question and the answer.
        aspect: As the image encoder has it: the same image and caption have another encoding with another one.
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
        super().__init__(checkpoint, lambda: backend)
        self._template = template
        self._aspect = aspect
        self._fixed_answers: dict[str, TokenIds] = {}  # by answers that do not depend on the caption

    @property
    def key(self) -> str:
        """The checkpoint's label, a digest of the wording and the aspect where they are not the usual, then `/pair`."""
        wording = hashlib.sha256(repr(self._template).encode()).hexdigest()[:8]
        variant = "" if self._template == QuestionTemplate() else f"+{wording}"
        return f"{self.checkpoint.label}{variant}{f'+{self._aspect}' if self._aspect else ''}/pair"

    @property
    def max_batch_cost(self) -> float:
        """Pairs of typical length."""
        return float(self._num_pairs)

    def _max_inputs(self) -> int:
        return self._num_pairs

    @cached_property
    def _num_pairs(self) -> int:
        num_tokens = self._num_tokens(_TYPICAL_TAIL_TOKENS)
        bias_bytes = self.checkpoint.t5_arch.num_heads * num_tokens**2 * 4
        return max(1, min(_MAX_BATCH, _MAX_BIAS_BYTES // bias_bytes))

    def bucket(self, preprocessed: PreprocessedPair) -> Hashable:
        """Pairs of about the same length."""
        num_tail = math.ceil(len(preprocessed.tail_ids) / _TAIL_BUCKET)
        return num_tail, math.ceil(len(preprocessed.answer_ids) / ANSWER_STEP)

    def cost(self, preprocessed: PreprocessedPair) -> float:
        """Attention grows with the square of the length, and so does the memory that it takes."""
        ratio = self._num_tokens(len(preprocessed.tail_ids)) / self._num_tokens(_TYPICAL_TAIL_TOKENS)
        return max(1.0, ratio**2, len(preprocessed.answer_ids) / _CHEAP_ANSWER_TOKENS)

    def _preprocess(self, raw: PairInput) -> PreprocessedPair:
        """Tokenise the caption's question and answer, in the pair's own template if it has one.

        Raises:
            TextTooLongError: More tokens than are read.
            InvalidFieldError: The caption is not valid Unicode.
        """
        tokenizer, template = self.checkpoint.pieces, self._template
        if isinstance(raw.template, QuestionTemplate):  # of the same conversation, whose head is the encoder's
            template = raw.template
        tail_ids = tokenizer.encode(template.tail(raw.caption))
        answer_ids = self._fixed_answers.get(template.answer)
        if answer_ids is None:
            answer_ids = tokenizer.encode(template.answer_for(raw.caption))
        if SLOT not in template.answer:
            self._fixed_answers[template.answer] = answer_ids
        for ids, limit in ((tail_ids, MAX_TAIL_TOKENS), (answer_ids, MAX_ANSWER_TOKENS)):
            if len(ids) > limit:
                raise TextTooLongError("The text has more tokens than are read.", num_tokens=len(ids), limit=limit)
        return PreprocessedPair(raw.image_encoding, tail_ids, answer_ids)

    def _usual_input(self) -> PreprocessedPair:
        shape = self.checkpoint.tower_arch.num_patches, self.checkpoint.t5_arch.width
        return self._preprocess(PairInput(caption="", image_encoding=np.zeros(shape, dtype=np.float32)))

    def _collate(self, part: Sequence[PreprocessedPair]) -> Mapping[str, Array]:
        answer_ids = _pad([pair.answer_ids for pair in part], ANSWER_STEP)
        read_ids = np.roll(answer_ids, 1, axis=1)
        read_ids[:, 0] = self.checkpoint.t5_arch.start_id
        return {
            "image_encodings": np.stack([pair.image_encodings for pair in part]).astype(np.float32, copy=False),
            "head_ids": np.tile(self._head_ids, (len(part), 1)),
            "tail_ids": _pad([pair.tail_ids for pair in part], TAIL_STEP),
            "read_ids": read_ids,
            "answer_ids": answer_ids,
        }

    def _read(self, preprocessed: PreprocessedPair, outputs: Mapping[str, Array]) -> AnswerLikelihood:
        return AnswerLikelihood.read(outputs, len(preprocessed.answer_ids))

    def _numbers(self, encoding: AnswerLikelihood) -> Iterable[Any]:
        return encoding.numbers

    @cached_property
    def _head_ids(self) -> TokenIds:
        return self.checkpoint.pieces.encode(self._template.head)

    def _num_tokens(self, num_tail: int) -> int:
        return len(self._head_ids) + self.checkpoint.tower_arch.num_patches + num_tail

    def _graph(self) -> Graph:
        checkpoint, arch = self.checkpoint, self.checkpoint.t5_arch
        rival_id = int(checkpoint.pieces.encode(RIVAL_ANSWER)[0])
        high = self._num_pairs
        batch = Dim("batch", 1, high, high)
        head = Dim("head", 1, 35, MAX_HEAD_TOKENS)
        tail = Dim("tail", TAIL_STEP, _TYPICAL_TAIL_TOKENS, MAX_TAIL_TOKENS)
        answer = Dim("answer", ANSWER_STEP, 2 * ANSWER_STEP, MAX_ANSWER_TOKENS)
        facts = repr((arch, checkpoint.sha256, rival_id))
        return Graph(
            name="flant5_score",
            inputs=(
                TensorSpec("image_encodings", "float32", (batch, checkpoint.tower_arch.num_patches, arch.width)),
                TensorSpec("head_ids", "int64", (batch, head), num_ids=arch.num_tokens),
                TensorSpec("tail_ids", "int64", (batch, tail), num_ids=arch.num_tokens),
                TensorSpec("read_ids", "int64", (batch, answer), num_ids=arch.num_tokens),
                TensorSpec("answer_ids", "int64", (batch, answer), num_ids=arch.num_tokens),
            ),
            outputs=("answer_log_probs", "rival_log_prob"),
            fingerprint=fingerprint("flant5_score", facts, packages=PACKAGES),
            build=partial(_build, checkpoint, rival_id),
            output_shapes=((batch, answer), (batch, 1)),
            fillable=frozenset({batch.name}),
            shipped=shipped_flant5(checkpoint, "flant5_score", score_state),
            exceeds_fp16=True,  # T5 was trained in bf16; its feed-forward layers are known to overflow in fp16
        )

    def _facts(self) -> NetworkFacts:
        arch, template = self.checkpoint.t5_arch, self._template
        notes = {
            "question": template.question,
            "answer": template.answer,
            "conversation": template.conversation,
            "scored": f"all answer tokens with end-of-sequence, over {arch.num_tokens} tokens",
        }
        return NetworkFacts(arch=ARCH, sha256=self.checkpoint.sha256, dim=arch.width, notes=notes)


def _pad(texts: Sequence[TokenIds], step: int) -> TokenIds:
    """`[N, L]`, padded on the right with 0 to a multiple of `step`."""
    length = math.ceil(max(map(len, texts)) / step) * step
    return pad_tokens(texts, length)


def _build(checkpoint: FlanT5Checkpoint, rival_id: int) -> "FlanT5Score":
    from plumbline_models.networks.flant5.weights import build_score_graph  # noqa: PLC0415 - torch, when compiling

    return build_score_graph(checkpoint, rival_id)
