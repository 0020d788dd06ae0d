"""The pair half of causal networks: what they say behind an image and a text, and how likely an answer is for one."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Backend, Engine
from plumbline_models.core.errors import InvalidFieldError, TextTooLongError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EncoderKind, PairInput
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.collate import PreprocessedQuestion, PromptPrefix, arrange_questions, lay_out
from plumbline_models.networks.causal.engines import (
    MAX_BATCH,
    MAX_TAIL_TOKENS,
    TYPICAL_TAIL_TOKENS,
    CausalNetwork,
    PrefixNetwork,
)
from plumbline_models.networks.causal.families import ANSWER_CONVENTIONS
from plumbline_models.networks.causal.image_encoder import ImageInPrompt
from plumbline_models.networks.causal.prompts import CausalPrompt, ImagePrompt, PromptTail, num_shared
from plumbline_models.networks.causal.published import PublishedNetwork
from plumbline_models.networks.causal.rules import AnswerRules
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts, OpenBackend, cut
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.text.questions import QuestionTemplate

_MAX_SCORE_CELLS: Final = 1 << 26
"""Queries times keys of one batch in one head; attention holds a few arrays of that size times its heads."""

NetworkT = TypeVar("NetworkT", bound=PublishedNetwork)
EncodingT = TypeVar("EncodingT")


class PrefixPairEncoder(CompiledEncoder[NetworkT, PreprocessedQuestion, EncodingT]):
    """Reads texts behind images; a batch is about one image, whose prefix is read once.

    Args:
        checkpoint: Whose language part.
        open_backend: Opens what runs the network, when it is loaded.
    """

    kind: EncoderKind = "pair"

    @cached_property
    @abstractmethod
    def _prompt(self) -> ImagePrompt: ...

    @abstractmethod
    def _network(self) -> PrefixNetwork: ...

    @property
    def max_batch_cost(self) -> float:
        """Captions of typical length."""
        return float(MAX_BATCH)

    def bucket(self, preprocessed: PreprocessedQuestion) -> Hashable:
        """Texts about one image that go on from the same place, of about the same length."""
        length = max(1.0, preprocessed.num_read / TYPICAL_TAIL_TOKENS)
        has_many = len(preprocessed.tail.answer_ids) > 2  # noqa: PLR2004
        return preprocessed.image.key, preprocessed.num_stock, math.ceil(math.log2(length)), has_many

    def cost(self, preprocessed: PreprocessedQuestion) -> float:
        """By the keys that its queries meet, which take the memory."""
        num_keys: int = preprocessed.image.tokens.shape[1] + len(preprocessed.tail.ids)
        return max(1.0, MAX_BATCH * preprocessed.num_read * num_keys / _MAX_SCORE_CELLS)

    def _max_inputs(self) -> int:
        return MAX_BATCH

    def _preprocess(self, raw: PairInput) -> PreprocessedQuestion:
        """Tokenise the prompt around a caption.

        Raises:
            TextTooLongError: More tokens than are read.
            InvalidFieldError: The image is not encoded for this network, or the caption is not valid Unicode.
        """
        if not isinstance(raw.image_encoding, ImageInPrompt):
            raise InvalidFieldError("This encoder takes pairs.", kind=type(raw.image_encoding).__name__)
        tail = self._tail(raw)
        found = PreprocessedQuestion(raw.image_encoding, tail, num_shared(self._prompt.stock_ids, tail.ids))
        if found.num_read > MAX_TAIL_TOKENS:
            raise TextTooLongError(
                "The text has more tokens than are read.", num_tokens=found.num_read, limit=MAX_TAIL_TOKENS
            )
        return found

    def _tail(self, raw: PairInput) -> PromptTail:
        return self._prompt.tail(raw.caption)

    def _usual_input(self) -> PreprocessedQuestion:
        """About what the image encoder makes of a small image, as to its shape."""
        checkpoint, has_axes = self.checkpoint, self.checkpoint.family.num_axes > 1
        shape = checkpoint.num_levels, checkpoint.num_tile_tokens or 4, checkpoint.sizes.width
        blank = ImageInPrompt(np.zeros(shape, dtype=np.float32), (2, 2) if has_axes else (0, 0), key=(0, 0))
        return self._preprocess(PairInput(caption="", image_encoding=blank))

    def _compile(self, backend: Backend) -> Engine:
        return self._network().open(backend)

    def _graph(self) -> Graph:
        network = self._network()
        return network.graph(network.whole, network.whole_inputs)

    def _parts(self, batch: Sequence[PreprocessedQuestion]) -> Iterable[Sequence[int]]:
        """Of one image each; images may differ within the batch, at a prefix each."""
        of_image: dict[tuple[int, int], list[int]] = {}
        for index, question in enumerate(batch):
            of_image.setdefault(question.image.key, []).append(index)
        return [part for indices in of_image.values() for part in cut(indices, self._max_inputs())]

    def _prefix(self, image: ImageInPrompt) -> PromptPrefix:
        prompt = self._prompt
        head_ids = prompt.head_ids(image.grid, self.checkpoint.num_tile_tokens or image.tokens.shape[1])
        axes_grid = image.grid if self.checkpoint.family.num_axes > 1 else None
        return lay_out(head_ids, prompt.stock_ids, placeholder_id=prompt.placeholder_id, grid=axes_grid)


class CausalPairEncoder(PrefixPairEncoder[CausalCheckpoint, AnswerLikelihood]):
    """Scores the answer to the question about pairs.

    Args:
        checkpoint: Whose language part.
        open_backend: Opens what runs the network, when it is loaded.
        template: The question and the answer.
        repetition_penalty: As the public program's generation applies it to tokens of the prompt; 1: none.
    """

    def __init__(
        self,
        checkpoint: CausalCheckpoint,
        open_backend: OpenBackend,
        *,
        template: QuestionTemplate,
        repetition_penalty: float = 1.0,
    ) -> None:
        super().__init__(checkpoint, open_backend)
        self._family = checkpoint.family
        self._template = template
        self._penalty = repetition_penalty
        self._prompts: dict[QuestionTemplate, CausalPrompt] = {}

    @property
    def key(self) -> str:
        """The checkpoint's label, a digest of the wording unless it is the family's, then `/pair`."""
        facts = (self._template.question, self._template.answer, self._penalty)
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
        variant = "" if facts == (self._family.question, self._family.answer, 1.0) else f"+{digest}"
        return f"{self.checkpoint.label}{variant}/pair"

    def _collate(self, part: Sequence[PreprocessedQuestion]) -> Mapping[str, Array]:
        return arrange_questions(part, self._prefix(part[0].image))

    def _read(self, preprocessed: PreprocessedQuestion, outputs: Mapping[str, Array]) -> AnswerLikelihood:
        has_end = self._family.conventions == "all_tokens"
        return AnswerLikelihood.read(outputs, len(preprocessed.tail.answer_ids), has_end=has_end)

    def _numbers(self, encoding: AnswerLikelihood) -> Iterable[Any]:
        return encoding.numbers

    @cached_property
    def _prompt(self) -> CausalPrompt:
        return CausalPrompt(self._family, self._template, self.checkpoint.pieces)

    def _tail(self, raw: PairInput) -> PromptTail:
        return self._prompt_for(raw.template).tail(raw.caption)

    def _prompt_for(self, template: Hashable | None) -> CausalPrompt:
        """Of a pair with a template of its own; images have the encoder's prompt before them all the same."""
        if not isinstance(template, QuestionTemplate) or template == self._template:
            return self._prompt
        if template not in self._prompts:  # of scorers: there are few
            self._prompts[template] = CausalPrompt(self._family, template, self.checkpoint.pieces)
        return self._prompts[template]

    def _network(self) -> CausalNetwork:
        pieces, prompt = self.checkpoint.pieces, self._prompt
        rules = AnswerRules(
            prompt.placeholder_id,
            prompt.rival_id(),
            pieces.num_tokens if self._family.is_vocabulary_cut else None,
            num_axes=self._family.num_axes,
            repetition_penalty=self._penalty,
        )
        return CausalNetwork(self.checkpoint, rules)

    def _facts(self) -> NetworkFacts:
        family, penalty = self._family, f"{self._penalty:g}"
        notes = {
            "family": family.name,
            "conventions": f"{family.conventions}: {ANSWER_CONVENTIONS[family.conventions]}",
            "question": self._template.question,
            "answer": self._template.answer,
            **({"repetition penalty": penalty} if self._penalty != 1.0 else {}),
        }
        sizes = self.checkpoint.sizes
        return NetworkFacts(arch=family.name, sha256=self.checkpoint.sha256, dim=sizes.width, notes=notes)
