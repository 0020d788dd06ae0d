"""The pair half of HPSv3: a reward, and how sure the network is of it, behind an image and a text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import TensorSpec
from plumbline_models.networks.causal.collate import PreprocessedQuestion, arrange_tails
from plumbline_models.networks.causal.engines import BATCH, TAIL_IDS, PrefixNetwork, language_part
from plumbline_models.networks.causal.hpsv3 import IMAGE_AREA
from plumbline_models.networks.causal.pair_encoder import PrefixPairEncoder
from plumbline_models.networks.causal.prompts import RewardPrompt
from plumbline_models.networks.causal.reward_checkpoint import RewardCheckpoint
from plumbline_models.networks.causal.rules import PromptRules
from plumbline_models.networks.compiled_encoder import NetworkFacts

if TYPE_CHECKING:
    from plumbline_models.networks.causal.prefix_module import PrefixModule

CONVENTIONS: Final = {"value": "mean of the reward", "positions": "plain", "image_area_px": str(IMAGE_AREA)}


@dataclass(frozen=True, slots=True)
class Reward:
    """What the network says of a pair: a normal distribution."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class RewardNetwork(PrefixNetwork):
    """A checkpoint's language part, and its head."""

    whole = "causal_reward"
    second = "causal_reward_tails"
    outputs = ("reward",)
    output_shapes = ((BATCH, 2),)
    tail_inputs = (TAIL_IDS, TensorSpec("scored_at", "int64", (BATCH, 1)))

    def build(self, name: str) -> "PrefixModule":
        """The module of a graph."""
        from plumbline_models.networks.causal.reward_module import CausalReward, CausalRewardTails  # noqa: PLC0415

        kind, loaded = CausalReward if name == self.whole else CausalRewardTails, self.checkpoint.network
        return kind(language_part(loaded.model), loaded.head, self.rules)


class RewardPairEncoder(PrefixPairEncoder[RewardCheckpoint, Reward]):
    """Rewards of pairs; system turn, image and instruction are the prefix that the texts of an image share."""

    @property
    def key(self) -> str:
        """The checkpoint's label, then `/pair`."""
        return f"{self.checkpoint.label}/pair"

    def _collate(self, part: Sequence[PreprocessedQuestion]) -> Mapping[str, Array]:
        return arrange_tails(part, self._prefix(part[0].image))

    def _read(self, preprocessed: PreprocessedQuestion, outputs: Mapping[str, Array]) -> Reward:
        del preprocessed
        mean, log_deviation = outputs["reward"].astype(np.float64)
        with np.errstate(over="ignore"):  # infinite then, which is no encoding
            return Reward(float(mean), float(np.exp(log_deviation)))

    def _numbers(self, encoding: Reward) -> Iterable[Any]:
        return encoding.mean, encoding.deviation

    @cached_property
    def _prompt(self) -> RewardPrompt:
        return RewardPrompt(self.checkpoint.family, self.checkpoint.pieces)

    def _network(self) -> RewardNetwork:
        rules = PromptRules(self._prompt.placeholder_id, num_axes=self.checkpoint.family.num_axes)
        return RewardNetwork(self.checkpoint, rules)

    def _facts(self) -> NetworkFacts:
        checkpoint = self.checkpoint
        family = checkpoint.family.name
        return NetworkFacts(family, checkpoint.sha256, checkpoint.sizes.width, {"family": family, **CONVENTIONS})
