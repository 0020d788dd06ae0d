"""One prefix, many tails: how causal networks read prompts that begin with the same image.

The prefix (all up to the caption) is read once per image and its keys and values are kept; the tails are read as one
right-padded batch against them.

torch keeps keys and values on its device, in one graph. Compilers, whose engines keep nothing, take the two steps as
two graphs, the first of which is `causal_prefix`.
"""

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.networks.causal.prefix_attention import SharedPrefix
from plumbline_models.networks.causal.rules import KEPT_BYTES, PromptRules

KeptPrefixes: TypeAlias = ByteBoundedCache[tuple[int, ...], SharedPrefix]


class PrefixModule(nn.Module):
    """Reads prefixes, and tails behind them.

    Args:
        language: The network's language part, from embeddings to its last norm.
        rules: How prompts are read.
    """

    def __init__(self, language: Any, rules: PromptRules) -> None:
        super().__init__()
        self.language = language
        self._prompt_rules = rules
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
        is_image = (ids == self._prompt_rules.placeholder_id)[:, None]
        which = (is_image[:, 0].cumsum(0) - 1).clamp(min=0)
        texts = self._embed(ids.where(~is_image[:, 0], 0))
        levels = image_encodings.to(texts.dtype)[:, which]
        deep: dict[str, Any] = {}
        if image_encodings.shape[0] > 1:
            added = levels[1:].where(is_image, 0)[:, None]
            deep = {"visual_pos_masks": None, "deepstack_visual_embeds": list(added.unbind(0))}
        self._read(levels[0].where(is_image, texts)[None], positions[:, None], prefix, **deep)
        return prefix

    def open_prefix(
        self, kept: KeptPrefixes, image_key: Tensor, *, read: tuple[Tensor, Tensor, Tensor], num_shared: Tensor
    ) -> tuple[SharedPrefix, Tensor]:
        """A prefix as far as the tails continue it, and the position of their first token `[1]`.

        Args:
            kept: Where it is found, or kept from now on.
            image_key: `[2]`: tells images apart.
            read: What `read_prefix` takes.
            num_shared: `[1]`: how much of the prefix the tails continue.
        """
        shared = int(num_shared)
        prefix = kept.get_or_make(tuple(image_key.tolist()), lambda: self.read_prefix(*read))
        return prefix.cut(shared), read[2][:, :shared].max()[None] + 1

    def read_tails(self, prefix: SharedPrefix, start: Tensor, tail_ids: Tensor, scored_at: Tensor) -> Tensor:
        """The last hidden states of tails, `[N, K, D]`.

        Args:
            prefix: What they continue.
            start: `[1]`, the position of a tail's first token.
            tail_ids: `[N, T]`, padded on the right with each tail's own last token.
            scored_at: `[N, K]`: the places in the tail whose states are wanted.
        """
        steps = start + torch.arange(tail_ids.shape[1], device=tail_ids.device)
        positions = steps.expand(self._prompt_rules.num_axes, *tail_ids.shape)
        hidden = self._read(self._embed(tail_ids), positions, prefix)
        return hidden.gather(1, scored_at[:, :, None].expand(-1, -1, hidden.shape[-1]))

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


class CausalPrefix(PrefixModule):
    """The graph `causal_prefix`."""

    def forward(self, image_encodings: Tensor, prefix_ids: Tensor, prefix_positions: Tensor) -> Tensor:
        """`[S, 2 * layers, heads, head width]`: keys, then values, of each layer; see `PrefixModule.read_prefix`."""
        return self.read_prefix(image_encodings, prefix_ids, prefix_positions).stacked()


def keep_prefixes() -> KeptPrefixes:
    """Where a graph keeps prefixes between batches."""
    return ByteBoundedCache(KEPT_BYTES, lambda prefix: prefix.num_bytes, keeps_newest=True)


def _add(hidden: Tensor, _mask: None, added: Tensor) -> Tensor:
    """What a deeper layer gets of the image; zero where the prompt has no image."""
    return hidden + added
