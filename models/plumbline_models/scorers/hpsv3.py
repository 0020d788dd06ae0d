"""HPSv3: which image people prefer for a prompt, by a vision-language model that reads an instruction with both.

Ma et al., "HPSv3: Towards Wide-Spectrum Human Preference Score", ICCV 2025, arXiv:2508.03789. The value is the mean of
the reward; its deviation, how sure the model is, stands beside it as `sigma`. As in the authors' program every token
has a plain position, image or not, and images are brought to 200,704 pixels. We differ where a caption holds control
tokens: they are read as text, where that program returns numbers of other items.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.causal.engines import open_causal_backend
from plumbline_models.networks.causal.image_encoder import CausalImageEncoder
from plumbline_models.networks.causal.reward_checkpoint import PUBLISHED, RewardCheckpoint
from plumbline_models.networks.causal.reward_encoder import CONVENTIONS, RewardPairEncoder
from plumbline_models.weights.paths import Paths

GFLOP: Final = 12000.0  # of the published network: 1,500 an image of 256 tokens, and 13.4 a token of the prompt


class HpsV3Section(BaseModel):
    """The section `hpsv3` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(PUBLISHED, min_length=1)
    """A hub name, or a folder of the published layout."""
    base: str | None = Field(None, min_length=1)
    """A hub name or folder of Qwen2-VL's configuration and tokenizer; none: the folder's own, else the hub's."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex digest that the weights must have."""


class HpsV3:
    """The mean of an image's reward for its prompt.

    Args:
        image: Makes tokens of an image.
        pair: Makes a reward of tokens and a prompt.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="hpsv3",
        summary="Which image people prefer for the text, and how sure the model is of it.",
        needs=frozenset({"image", "text"}),
        low=None,
        high=None,
        higher_is_better=True,
        source="arXiv:2508.03789",
    )
    paths: ClassVar[Paths] = dict.fromkeys(("model", "base"), "folder or hub name")
    relative_cost: float = GFLOP

    def __init__(self, image: Encoder, pair: Encoder) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder = pair
        self.conventions: Mapping[str, str] = CONVENTIONS

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid, or the extra `vlm` is not installed.
            CheckpointError: There are no such weights.
        """
        section = parse_section(HpsV3Section, options, scorer=cls.info.name)
        checkpoint = RewardCheckpoint(section.model, base=section.base, pinned=section.sha256)
        open_backend = partial(open_causal_backend, context)
        image = CausalImageEncoder(checkpoint, open_backend)
        pair = RewardPairEncoder(checkpoint, open_backend)
        return cls(context.registry.take(image), context.registry.take(pair))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each pair.

        Args:
            batch: `pairs` holds a `Reward` for each item.

        Returns:
            Unbounded values, higher is better; `sigma` is the deviation of each.

        Raises:
            MissingTextError: The batch has no pairs.
        """
        if batch.pairs is None:
            raise MissingTextError("hpsv3 needs an image and a text.", scorer=self.info.name)
        return [Score(reward.mean, {"sigma": reward.deviation}) for reward in batch.pairs]
