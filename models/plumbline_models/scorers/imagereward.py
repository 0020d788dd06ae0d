"""ImageReward: which image people prefer for a prompt, by a network that reads the image while it reads the prompt.

Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation", NeurIPS 2023,
arXiv:2304.05977, section 3. The reward is standardised with the mean and deviation of the authors' program. Prompts are
cut at 35 tokens, as there. Captions never become control tokens. The authors' program resizes palettes, 1-bit files and
transparent images before it makes RGB of them; here images are RGB first, which differs for such files alone.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.blip.checkpoint import PUBLISHED, BlipCheckpoint
from plumbline_models.networks.blip.encoders import BlipImageEncoder, BlipPairEncoder
from plumbline_models.networks.two_towers import truncated
from plumbline_models.weights.paths import Paths

GFLOP: Final = 138.0  # of the published network: 123 an image and 15 a pair of 35 tokens


class ImageRewardSection(BaseModel):
    """The section `imagereward` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(PUBLISHED, min_length=1)
    """A hub name, or a folder of the published layout."""
    tokenizer: str | None = None
    """A hub name or folder of BERT's vocabulary, where the folder has none of its own."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex digest that the weights must have."""


class ImageReward:
    """The reward of an image for its prompt.

    Args:
        image: Makes tokens of an image.
        pair: Makes a reward of tokens and a prompt.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="imagereward",
        summary="Which image people prefer for the text. Compare images of one text only.",
        needs=frozenset({"image", "text"}),
        low=None,
        high=None,
        higher_is_better=True,
        source="arXiv:2304.05977",
    )
    paths: ClassVar[Paths] = dict.fromkeys(("model", "tokenizer"), "folder or hub name")
    relative_cost: float = GFLOP

    def __init__(self, image: Encoder, pair: Encoder) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder = pair
        first = "[CLS]"
        self.conventions: Mapping[str, str] = {"value": "standardised reward", "first_token": first}

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid.
            CheckpointError: There are no such weights.
        """
        section = parse_section(ImageRewardSection, options, scorer=cls.info.name)
        checkpoint = BlipCheckpoint(section.model, section.tokenizer, section.sha256)
        image, pair = BlipImageEncoder(checkpoint, context.backend), BlipPairEncoder(checkpoint, context.backend)
        return cls(context.registry.take(image), context.registry.take(pair))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each pair.

        Args:
            batch: `pairs` holds a reward for each item, `texts` the prompts.

        Returns:
            Unbounded values around 0, higher is better; `truncated` where the prompt was cut.

        Raises:
            MissingTextError: The batch has no pairs.
        """
        if batch.pairs is None:
            raise MissingTextError("imagereward needs an image and a text.", scorer=self.info.name)
        texts = batch.texts or [""] * len(batch.pairs)
        pairs = zip(batch.pairs, texts, strict=True)
        return [Score(value=float(reward), details=truncated(self.pair, [text])) for reward, text in pairs]
