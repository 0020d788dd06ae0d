"""How likely an answer is behind an image and a question, for causal networks: one prefix, many tails.

The prefix (all up to the caption) is read once per image and its keys and values are kept; the tails are read as one
right-padded batch against them; the vocabulary is multiplied at the scored positions alone.

torch keeps keys and values on its device, in the graph `causal_answer`. Compilers, whose engines keep nothing, take
the two steps as two graphs, `causal_prefix` and `causal_tails`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.networks.causal.prefix_attention import SharedPrefix
from plumbline_models.networks.causal.rules import KEPT_BYTES, AnswerRules


class CausalModule(nn.Module):
    """Reads prefixes, and tails behind them.

    Args:
        language: The network's language part, from embeddings to its last norm.
        vocabulary: From there to logits.
    """

    def __init__(self, language: Any, vocabulary: nn.Linear, rules: AnswerRules) -> None:
        super().__init__()
        self.language = language
        self.vocabulary = vocabulary
        self._rules = rules
        if hasattr(language, "_deepstack_process"):
            language._deepstack_process = _add  # noqa: SLF001 - the library's reads sizes back from the mask

    def read_prefix(self, image_encodings: Tensor, ids: Tensor, positions: Tensor) -> SharedPrefix:
        """Keys and values of a prefix.

        Args:
            image_encodings: `[1 + deep, P, D]`: the tokens of the image, and what deeper layers add to them.
            ids: `[S]`, placeholders where the image's tokens stand.
            positions: `[axes, S]`.
        """
        prefix = SharedPrefix()
        is_image = (ids == self._rules.placeholder_id)[:, None]
        which = (is_image[:, 0].cumsum(0) - 1).clamp(min=0)
        texts = self._embed(ids.where(~is_image[:, 0], 0))
        levels = image_encodings.to(texts.dtype)[:, which]
        deep: dict[str, Any] = {}
        if image_encodings.shape[0] > 1:
            added = levels[1:].where(is_image, 0)[:, None]
            deep = {"visual_pos_masks": None, "deepstack_visual_embeds": list(added.unbind(0))}
        self._read(levels[0].where(is_image, texts)[None], positions[:, None], prefix, **deep)
        return prefix

    def read_tails(
        self, prefix: SharedPrefix, seen_ids: Tensor, start: Tensor, *, tails: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Score tails behind one prefix.

        Args:
            seen_ids: `[S]`, of the prefix.
            start: `[1]`, the position of a tail's first token.
            tails: `tail_ids`, `scored_at` and `answer_ids`, as in `CausalAnswer.forward`.

        Returns:
            As `CausalAnswer.forward`.
        """
        tail_ids, scored_at, answer_ids = tails
        steps = start + torch.arange(tail_ids.shape[1], device=tail_ids.device)
        hidden = self._read(self._embed(tail_ids), steps.expand(self._rules.num_axes, *tail_ids.shape), prefix)
        hidden = hidden.gather(1, scored_at[:, :, None].expand(-1, -1, hidden.shape[-1]))
        logits = self.vocabulary(hidden)[:, :, : self._rules.num_tokens].float()
        if self._rules.repetition_penalty != 1.0:
            logits = self._penalise(logits, seen_ids, tail_ids)
        log_probs = logits.log_softmax(-1)
        rival = log_probs[:, 0, self._rules.rival_id : self._rules.rival_id + 1]
        return log_probs.gather(2, answer_ids[:, :, None])[:, :, 0], rival

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
        seen = torch.cat([prefix_ids.expand(tail_ids.shape[0], -1), tail_ids], dim=1)
        is_seen = torch.zeros_like(logits[:, 0]).scatter(1, seen, 1.0)[:, None] > 0
        return torch.where(is_seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


class CausalAnswer(CausalModule):
    """The graph `causal_answer`: both steps, prefixes kept on the device."""

    def __init__(self, language: Any, vocabulary: nn.Linear, rules: AnswerRules) -> None:
        super().__init__(language, vocabulary, rules)
        self._kept: ByteBoundedCache[tuple[int, ...], SharedPrefix] = ByteBoundedCache(
            KEPT_BYTES, lambda prefix: prefix.num_bytes, keeps_newest=True
        )

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
        shared = int(num_shared)
        prefix = self._kept.get_or_make(
            tuple(image_key.tolist()), lambda: self.read_prefix(image_encodings, prefix_ids, prefix_positions)
        )
        start = prefix_positions[:, :shared].max()[None] + 1
        return self.read_tails(prefix.cut(shared), prefix_ids[:shared], start, tails=(tail_ids, scored_at, answer_ids))


class CausalPrefix(CausalModule):
    """The graph `causal_prefix`."""

    def forward(self, image_encodings: Tensor, prefix_ids: Tensor, prefix_positions: Tensor) -> Tensor:
        """`[S, 2 * layers, heads, head width]`: keys, then values, of each layer; see `CausalAnswer.forward`."""
        return self.read_prefix(image_encodings, prefix_ids, prefix_positions).stacked()


class CausalTails(CausalModule):
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
        return self.read_tails(unpacked, prefix_ids, start, tails=(tail_ids, scored_at, answer_ids))


def _add(hidden: Tensor, _mask: None, added: Tensor) -> Tensor:
    """What a deeper layer gets of the image; zero where the prompt has no image."""
    return hidden + added
