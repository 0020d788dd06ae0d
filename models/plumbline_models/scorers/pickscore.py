"""PickScore: which image people prefer for a prompt.

Kirstain et al., "Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation", NeurIPS 2023,
arXiv:2305.01569, section 4: `exp(logit_scale) * cosine` of a CLIP that was trained further on preferences. Its softmax
over the candidates of one prompt is the probability that each is preferred. As in the authors' program texts are
cleaned and images cropped by the transformers library's rules, which are not open_clip's. Captions never become control
tokens.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.spec import HUB, ClipSection, ClipSpec
from plumbline_models.networks.two_towers import Towers, captioned, scaled_cosine
from plumbline_models.weights.folders import is_folder_name
from plumbline_models.weights.paths import Paths

PUBLISHED: Final = "yuvalkirstain/PickScore_v1"


class PickScoreSection(BaseModel):
    """The section `pickscore` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(PUBLISHED, min_length=1)
    """A hub name, or a folder of the published layout."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex digest that the weights must have."""


class PickScore:
    """The checkpoint's scale times the cosine of an image and its prompt.

    Args:
        image: Of the same CLIP as `text`.
        text: Its encodings have the checkpoint's scale as their length.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="pickscore",
        summary="Which image people prefer for the text. Compare images of one text only.",
        needs=frozenset({"image", "text"}),
        low=None,
        high=None,
        higher_is_better=True,
        source="arXiv:2305.01569",
    )
    paths: ClassVar[Paths] = {"model": "folder or hub name"}
    conventions: Mapping[str, str]

    def __init__(self, image: Encoder, text: Encoder, *, relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder = text
        self.pair: Encoder | None = None
        self.conventions = {
            "value": "exp(logit_scale) * cosine",
            "processor": "transformers",
            "probability": "softmax of the values of one text's images",
        }
        self.relative_cost = relative_cost

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid.
            CheckpointError: There are no such weights, or they are not those that the section means.
        """
        section = parse_section(PickScoreSection, options, scorer=cls.info.name)
        towers = Towers.open(_spec(section), context, is_scaled=True)
        return cls(towers.image, towers.text, relative_cost=towers.image_gflop + towers.text_gflop)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image for the prompt at the same index.

        Args:
            batch: Unit-norm `images`, `captions` of the scale's length, and the `texts` of the captions.

        Returns:
            Values within plus and minus the scale, higher is better, which are the logits too; `cosine` beside them,
            and `truncated` where the prompt was cut.

        Raises:
            MissingTextError: The batch has no images or no captions.
        """
        return [_score(*each) for each in captioned(batch, self.text, scorer=self.info.name)]


def _score(image: Encoding, caption: Encoding, said: Mapping[str, Any]) -> Score:
    value, scale = scaled_cosine(image, caption)
    return Score(value=value, details={"cosine": value / scale if scale else 0.0, **said}, logit=value)


def _spec(section: PickScoreSection) -> ClipSpec:
    if is_folder_name(section.model):
        named = ClipSection(checkpoint=Path(section.model), sha256=section.sha256)
    else:
        named = ClipSection(arch=f"{HUB}{section.model}", sha256=section.sha256)
    return ClipSpec.of(named).as_transformers
