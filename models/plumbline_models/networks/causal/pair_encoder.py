"""The pair half of causal question-answering networks: how likely the answer is behind an image and a question."""

import hashlib
import math
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError, SetupError, TextTooLongError
from plumbline_models.core.protocols import EncoderInfo, EncoderKind, Origin, PairInput
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.collate import PreprocessedQuestion, PromptPrefix, arrange_questions, lay_out
from plumbline_models.networks.causal.engines import (
    MAX_BATCH,
    MAX_TAIL_TOKENS,
    TYPICAL_TAIL_TOKENS,
    CausalNetwork,
    CausalRuns,
)
from plumbline_models.networks.causal.families import ANSWER_CONVENTIONS
from plumbline_models.networks.causal.image_encoder import ImageInPrompt, OpenBackend
from plumbline_models.networks.causal.prompts import CausalPrompt
from plumbline_models.networks.causal.rules import AnswerRules
from plumbline_models.networks.likelihood import AnswerLikelihood, read_likelihoods
from plumbline_models.networks.warming import require_numbers
from plumbline_models.text.questions import QuestionTemplate

_MAX_SCORE_CELLS: Final = 1 << 26
"""Queries times keys of one batch in one head; attention holds a few arrays of that size times its heads."""


class CausalPairEncoder:
    """Asks the question about pairs of images and captions; a batch is about one image, whose prefix is read once.

    Args:
        open_backend: Opens what runs the network, when it is loaded.
        repetition_penalty: As the public program's generation applies it to tokens of the prompt; 1: none.
    """

    kind: EncoderKind = "pair"

    def __init__(
        self,
        checkpoint: CausalCheckpoint,
        open_backend: OpenBackend,
        *,
        template: QuestionTemplate,
        repetition_penalty: float = 1.0,
    ) -> None:
        self._checkpoint = checkpoint
        self._family = checkpoint.family
        self._open_backend = open_backend
        self._template = template
        self._penalty = repetition_penalty
        self._runs: CausalRuns | None = None
        self._info: EncoderInfo | None = None

    @property
    def key(self) -> str:
        """The checkpoint's label, a digest of the wording unless it is the family's, then `/pair`."""
        facts = (self._template.question, self._template.answer, self._penalty)
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
        variant = "" if facts == (self._family.question, self._family.answer, 1.0) else f"+{digest}"
        return f"{self._checkpoint.label}{variant}/pair"

    @property
    def max_batch_cost(self) -> float:
        """Captions of typical length."""
        return float(MAX_BATCH)

    def preprocess(self, raw: Pixels | str | PairInput) -> PreprocessedQuestion:
        """Tokenise the caption's question and answer.

        Raises:
            TextTooLongError: More tokens than are read.
            InvalidFieldError: It is no pair, or the caption is not valid Unicode.
        """
        if not isinstance(raw, PairInput) or not isinstance(raw.image_encoding, ImageInPrompt):
            raise InvalidFieldError("This encoder takes pairs.", kind=type(raw).__name__)
        tail = self._prompt.tail(raw.caption)
        if len(tail.ids) > MAX_TAIL_TOKENS:
            raise TextTooLongError(
                "The text has more tokens than are read.", num_tokens=len(tail.ids), limit=MAX_TAIL_TOKENS
            )
        return PreprocessedQuestion(raw.image_encoding, tail)

    def load_preprocessing(self) -> None:
        """Prepare one question, which reads the tokenizer.

        Raises:
            CheckpointError: It cannot be had.
        """
        self.preprocess(PairInput(caption="", image_encoding=self._blank))

    def bucket(self, preprocessed: PreprocessedQuestion) -> Hashable:
        """Questions about one image, of about the same length."""
        length = max(1.0, len(preprocessed.tail.ids) / TYPICAL_TAIL_TOKENS)
        return preprocessed.image.key, math.ceil(math.log2(length)), len(preprocessed.tail.answer_ids) > 2  # noqa: PLR2004

    def cost(self, preprocessed: PreprocessedQuestion) -> float:
        """By the keys that its queries meet, which take the memory."""
        length = len(preprocessed.tail.ids)
        num_keys: int = preprocessed.image.rows.shape[1] + length
        return max(1.0, MAX_BATCH * length * num_keys / _MAX_SCORE_CELLS)

    @property
    def checkpoint(self) -> CausalCheckpoint:
        """What it reads."""
        return self._checkpoint

    def origin(self) -> Origin:
        """Of the checkpoint."""
        return self._checkpoint.origin

    def load(self) -> None:
        """Load the network and ask it about a small blank image.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
            EngineError: They do not run, or give no numbers.
        """
        if self._runs is not None:
            return
        runs = CausalNetwork(self._checkpoint, self._rules()).open(self._open_backend())
        image = self._blank
        question = self.preprocess(PairInput(caption="", image_encoding=image))
        require_numbers(runs.run(arrange_questions([question], self._prefix(image))).values(), self, runs.info)
        self._runs = runs
        family, ran = self._family, runs.info  # one stream: what is kept of prefixes is for one thread
        penalty = {"repetition penalty": f"{self._penalty:g}"} if self._penalty != 1.0 else {}
        self._info = EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch=family.name,
            source=self._checkpoint.origin.source,
            licence=self._checkpoint.origin.licence,
            sha256=self._checkpoint.sha256,
            dim=self._checkpoint.sizes.width,
            backend=ran.backend,
            precision=ran.precision,
            device=ran.device,
            notes={
                "family": family.name,
                "conventions": f"{family.conventions}: {ANSWER_CONVENTIONS[family.conventions]}",
                "question": self._template.question,
                "answer": self._template.answer,
                **penalty,
            },
        )

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[PreprocessedQuestion]) -> Sequence[AnswerLikelihood | PlumblineError]:
        """Read off the likelihood of each answer; images may differ within the batch, at a prefix each.

        Returns:
            A likelihood for each pair, or an error where the engine gave no number.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._runs is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        found: list[AnswerLikelihood | PlumblineError] = [EngineError("Not run.")] * len(batch)
        of_image: dict[tuple[int, int], list[int]] = {}
        for index, question in enumerate(batch):
            of_image.setdefault(question.image.key, []).append(index)
        for indices in of_image.values():
            for first in range(0, len(indices), MAX_BATCH):
                chosen = indices[first : first + MAX_BATCH]
                rows = self._run(self._runs, [batch[index] for index in chosen])
                for index, row in zip(chosen, rows, strict=True):
                    found[index] = row
        return found

    def _run(self, runs: CausalRuns, batch: Sequence[PreprocessedQuestion]) -> list[AnswerLikelihood | PlumblineError]:
        outputs = runs.run(arrange_questions(batch, self._prefix(batch[0].image)))
        lengths = [len(question.tail.answer_ids) for question in batch]
        return read_likelihoods(outputs, lengths, has_end=self._family.conventions == "all_tokens")

    def _prefix(self, image: ImageInPrompt) -> PromptPrefix:
        prompt = self._prompt
        head_ids = prompt.head_ids(image.grid, self._checkpoint.num_tile_rows or image.rows.shape[1])
        axes_grid = image.grid if self._family.num_axes > 1 else None
        return lay_out(head_ids, prompt.stock_ids, prompt.placeholder_id, axes_grid)

    @property
    def _blank(self) -> ImageInPrompt:
        """What the image encoder makes of a small image, as to its shape."""
        checkpoint, has_axes = self._checkpoint, self._family.num_axes > 1
        shape = checkpoint.num_levels, checkpoint.num_tile_rows or 4, checkpoint.sizes.width
        return ImageInPrompt(np.zeros(shape, dtype=np.float32), (2, 2) if has_axes else (0, 0), key=(0, 0))

    @cached_property
    def _prompt(self) -> CausalPrompt:
        return CausalPrompt(self._family, self._template, self._checkpoint.pieces)

    def _rules(self) -> AnswerRules:
        pieces, prompt = self._checkpoint.pieces, self._prompt
        return AnswerRules(
            prompt.placeholder_id,
            prompt.rival_id(),
            pieces.num_tokens if self._family.is_vocabulary_cut else None,
            num_axes=self._family.num_axes,
            repetition_penalty=self._penalty,
        )
