"""A reward behind an image and a text, for causal networks with a head in place of the vocabulary.

torch takes the whole as the graph `causal_reward`; of the two graphs that compilers take this is the second,
`causal_reward_tails`.
"""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from plumbline_models.networks.causal.prefix_attention import SharedPrefix
from plumbline_models.networks.causal.prefix_module import PrefixModule, keep_prefixes
from plumbline_models.networks.causal.rules import PromptRules


class RewardHead(nn.Module):
    """Mean and logarithm of the deviation of a reward, in float32 whatever the rest of the network computes in.

    Args:
        layers: Linear layers in their order; rectifiers stand between them.
    """

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[N, D]` to `[N, 2]`."""
        found = hidden.float()
        for index, layer in enumerate(self.layers):
            found = layer(found.relu() if index else found)
        return found

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)


class RewardModule(PrefixModule):
    """Reads a reward at the end of each tail.

    Args:
        language: The network's language part, from embeddings to its last norm.
        head: From there to the reward.
        rules: How prompts are read.
    """

    def __init__(self, language: Any, head: RewardHead, rules: PromptRules) -> None:
        super().__init__(language, rules)
        self.head = head


class CausalReward(RewardModule):
    """The graph `causal_reward`: both steps, prefixes kept on the device."""

    def __init__(self, language: Any, head: RewardHead, rules: PromptRules) -> None:
        super().__init__(language, head, rules)
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
    ) -> Tensor:
        """Score tails of one image.

        Args:
            image_encodings: `[1 + deep, P, D]`, as of `CausalAnswer.forward`, like all that follow.
            scored_at: `[N, 1]`: the place of the reward token in the tail.

        Returns:
            `[N, 2]`: the reward, and the logarithm of its deviation.
        """
        read = image_encodings, prefix_ids, prefix_positions
        prefix, start = self.open_prefix(self._kept, image_key, read=read, num_shared=num_shared)
        return self.head(self.read_tails(prefix, start, tail_ids, scored_at)[:, 0])


class CausalRewardTails(RewardModule):
    """The graph `causal_reward_tails`."""

    def forward(self, prefix: Tensor, prefix_ids: Tensor, start: Tensor, tail_ids: Tensor, scored_at: Tensor) -> Tensor:
        """As `CausalReward.forward`, of what `causal_prefix` gave, cut to what the tails continue.

        Args:
            start: `[1]`, the position of a tail's first token.
        """
        del prefix_ids  # of use to those alone who score by what the prompt holds
        return self.head(self.read_tails(SharedPrefix.unstacked(prefix), start, tail_ids, scored_at)[:, 0])
