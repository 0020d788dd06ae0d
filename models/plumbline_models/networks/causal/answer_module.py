"""How likely an answer is behind an image and a question, for causal networks.

The vocabulary is multiplied at the scored positions alone. torch takes the whole as the graph `causal_answer`; of the
two graphs that compilers take this is the second, `causal_tails`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from plumbline_models.networks.causal.prefix_attention import SharedPrefix
from plumbline_models.networks.causal.prefix_module import PrefixModule, keep_prefixes
from plumbline_models.networks.causal.rules import AnswerRules


class AnswerModule(PrefixModule):
    """Scores answers at the ends of tails.

    Args:
        language: The network's language part, from embeddings to its last norm.
        vocabulary: From there to logits.
        rules: What is scored.
    """

    def __init__(self, language: Any, vocabulary: nn.Linear, rules: AnswerRules) -> None:
        super().__init__(language, rules)
        self.vocabulary = vocabulary
        self._rules = rules

    def score_tails(
        self, prefix: SharedPrefix, seen_ids: Tensor, start: Tensor, *, tails: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Score tails behind one prefix.

        Args:
            prefix: What they continue.
            seen_ids: `[S]`, of the prefix.
            start: `[1]`, the position of a tail's first token.
            tails: `tail_ids`, `scored_at` and `answer_ids`, as in `CausalAnswer.forward`.

        Returns:
            As `CausalAnswer.forward`.
        """
        tail_ids, scored_at, answer_ids = tails
        hidden = self.read_tails(prefix, start, tail_ids, scored_at)
        logits = self.vocabulary(hidden)[:, :, : self._rules.num_tokens].float()
        if self._rules.repetition_penalty != 1.0:
            logits = self._penalise(logits, seen_ids, tail_ids)
        log_probs = logits.log_softmax(-1)
        rival = log_probs[:, 0, self._rules.rival_id : self._rules.rival_id + 1]
        return log_probs.gather(2, answer_ids[:, :, None])[:, :, 0], rival

    def _penalise(self, logits: Tensor, prefix_ids: Tensor, tail_ids: Tensor) -> Tensor:
        penalty = self._rules.repetition_penalty
        seen = torch.cat([prefix_ids.expand(tail_ids.shape[0], -1), tail_ids], dim=1)
        is_seen = torch.zeros_like(logits[:, 0]).scatter(1, seen, 1.0)[:, None] > 0
        return torch.where(is_seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


class CausalAnswer(AnswerModule):
    """The graph `causal_answer`: both steps, prefixes kept on the device."""

    def __init__(self, language: Any, vocabulary: nn.Linear, rules: AnswerRules) -> None:
        super().__init__(language, vocabulary, rules)
        self._kept = keep_prefixes()

    def forward(  # noqa: PLR0917 - an engine gives a graph its inputs by position
        self,
        image_encodings: Tensor,
        image_key: Tensor,
        prefix_ids: Tensor,
        prefix_positions: Tensor,
        num_shared: Tensor,
        tail_ids: Tensor,
        scored_at: Tensor,
        answer_ids: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Score tails of one image.

        Args:
            image_encodings: `[1 + deep, P, D]`: the tokens of the image, and what deeper layers add to them.
            image_key: `[2]`: tells images apart.
            prefix_ids: `[S]`: placeholders where the image's tokens stand.
            prefix_positions: `[axes, S]`.
            num_shared: `[1]`: how much of the prefix the tails continue.
            tail_ids: `[N, T]`, padded on the right with each tail's own last token.
            scored_at: `[N, K]`: positions in the tail behind which the answer's tokens stand.
            answer_ids: `[N, K]`.

        Returns:
            `[N, K]` logarithms of the probabilities of the answer's tokens, `[N, 1]` of the rival behind the first
            scored position.
        """
        read = image_encodings, prefix_ids, prefix_positions
        prefix, start = self.open_prefix(self._kept, image_key, read=read, num_shared=num_shared)
        seen_ids = prefix_ids[: int(num_shared)]
        return self.score_tails(prefix, seen_ids, start, tails=(tail_ids, scored_at, answer_ids))


class CausalTails(AnswerModule):
    """The graph `causal_tails`."""

    def forward(  # noqa: PLR0917 - an engine gives a graph its inputs by position
        self,
        prefix: Tensor,
        prefix_ids: Tensor,
        start: Tensor,
        tail_ids: Tensor,
        scored_at: Tensor,
        answer_ids: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """As `CausalAnswer.forward`, of what `causal_prefix` gave, cut to what the tails continue.

        Args:
            start: `[1]`, the position of a tail's first token.
        """
        unpacked = SharedPrefix.unstacked(prefix)
        return self.score_tails(unpacked, prefix_ids, start, tails=(tail_ids, scored_at, answer_ids))
