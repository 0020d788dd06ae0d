"""How likely an answer is behind an image and a question, for causal networks: one prefix, many tails.

The prefix (all up to the caption) is read once an image and its keys and values are kept on the device; the tails are
read as one right-padded batch against them; the vocabulary is multiplied at the scored positions alone.
"""

from collections import OrderedDict
from typing import Any, Final

import torch
from torch import Tensor, nn

from plumbline_models.graphs.causal_rules import AnswerRules
from plumbline_models.graphs.shared_prefix import SharedPrefix

KEPT_BYTES: Final = 1 << 30
"""Of keys and values that are kept for further batches of the same images; the newest is kept whatever it takes."""


class CausalAnswer(nn.Module):
    """The graph `causal_answer`.

    Args:
        language: The network's language part, from embeddings to its last norm.
        vocabulary: From there to logits.
    """

    def __init__(self, language: Any, vocabulary: nn.Linear, rules: AnswerRules) -> None:
        super().__init__()
        self.language = language
        self.vocabulary = vocabulary
        self._rules = rules
        self._kept: OrderedDict[tuple[int, ...], SharedPrefix] = OrderedDict()

    def forward(  # noqa: PLR0917 - an engine gives a graph its inputs by position
        self,
        image_rows: Tensor,
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
            image_rows: `[1 + deep, P, D]`: the rows that stand for the image, and what deeper layers add to them.
            image_key: `[2]`: tells images apart.
            prefix_ids: `[S]`: placeholders where the rows stand.
            prefix_positions: `[axes, S]`.
            num_shared: `[1]`: how much of the prefix the tails continue.
            tail_ids: `[N, T]`, filled up on the right with the row's own last token.
            scored_at: `[N, K]`: positions in the tail behind which the answer's tokens stand.
            answer_ids: `[N, K]`.

        Returns:
            `[N, K]` logarithms of the probabilities of the answer's tokens, `[N, 1]` of the rival behind the first
            scored position.
        """
        shared = int(num_shared)
        prefix = self._prefix(image_rows, image_key, prefix_ids, prefix_positions).cut(shared)
        first = prefix_positions[:, :shared].max() + 1
        steps = first + torch.arange(tail_ids.shape[1], device=tail_ids.device)
        positions = steps.expand(prefix_positions.shape[0], *tail_ids.shape)
        hidden = self._read(self._embed(tail_ids), positions, prefix)
        hidden = hidden.gather(1, scored_at[:, :, None].expand(-1, -1, hidden.shape[-1]))
        logits = self.vocabulary(hidden)[:, :, : self._rules.num_tokens].float()
        if self._rules.repetition_penalty != 1.0:
            logits = self._penalise(logits, prefix_ids[:shared], tail_ids)
        log_probs = logits.log_softmax(-1)
        rival = log_probs[:, 0, self._rules.rival_id, None]
        return log_probs.gather(2, answer_ids[:, :, None])[:, :, 0], rival

    def _prefix(self, image_rows: Tensor, image_key: Tensor, ids: Tensor, positions: Tensor) -> SharedPrefix:
        key = tuple(image_key.tolist())
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        prefix = SharedPrefix()
        is_image = ids == self._rules.placeholder_id
        embedded = self._embed(ids.where(~is_image, 0))
        embedded[is_image] = image_rows[0].to(embedded.dtype)
        deep: dict[str, Any] = {}
        if image_rows.shape[0] > 1:
            deep = {"visual_pos_masks": is_image[None], "deepstack_visual_embeds": list(image_rows[1:])}
        self._read(embedded[None], positions[:, None], prefix, **deep)
        self._kept[key] = prefix
        while len(self._kept) > 1 and sum(kept.num_bytes for kept in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return prefix

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.language.get_input_embeddings()(ids)
        return embedded

    def _read(self, embedded: Tensor, positions: Tensor, prefix: SharedPrefix, **deep: Any) -> Tensor:
        hidden: Tensor = self.language(
            inputs_embeds=embedded,
            position_ids=positions[0] if positions.shape[0] == 1 else positions,
            use_cache=False,
            prefix=prefix,
            **deep,
        ).last_hidden_state
        return hidden

    def _penalise(self, logits: Tensor, prefix_ids: Tensor, tail_ids: Tensor) -> Tensor:
        penalty = self._rules.repetition_penalty
        is_seen = torch.zeros(logits.shape[0], logits.shape[2], dtype=torch.bool, device=logits.device)
        is_seen[:, prefix_ids] = True
        is_seen.scatter_(1, tail_ids, value=True)
        return torch.where(is_seen[:, None], torch.where(logits > 0, logits / penalty, logits * penalty), logits)
