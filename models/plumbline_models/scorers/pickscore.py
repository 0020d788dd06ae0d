"""PickScore: which image people prefer for a prompt.

Kirstain et al., "Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation", NeurIPS 2023,
arXiv:2305.01569, section 4: `exp(logit_scale) * cosine` of a CLIP that was trained further on preferences. Its softmax
over the candidates of one prompt is the probability that each is preferred. As in the authors' program texts are
cleaned and images cropped by the transformers library's rules, which are not open_clip's. Captions never become control
tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.scaled import ScaledTextEncoder
from plumbline_models.networks.clip.spec import HUB, ClipSection, ClipSpec
from plumbline_models.networks.clip.tokens import is_cut
from plumbline_models.weights.folders import is_folder_name
from plumbline_models.weights.paths import Paths

PUBLISHED: Final = "yuvalkirstain/PickScore_v1"
LICENCE: Final = "none stated; the code's and the base model's is MIT"


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
        self.conventions = {"value": "exp(logit_scale) * cosine", "processor": "transformers"}
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
        spec = _spec(section)
        image = ClipImageEncoder(spec, context.backend)
        text = ClipTextEncoder(spec, context.backend)
        scaled = ScaledTextEncoder(context.registry.take(text), spec)
        cost = image.gflop + text.gflop
        return cls(context.registry.take(image), context.registry.take(scaled), relative_cost=cost)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image for the prompt at the same index.

        Args:
            batch: Unit-norm `images`, `captions` of the scale's length, and the `texts` of the captions.

        Returns:
            Values within plus and minus the scale, higher is better; `cosine` beside them, and `truncated` where the
            prompt was cut.

        Raises:
            MissingTextError: The batch has no images or no captions.
        """
        if batch.images is None or batch.captions is None:
            raise MissingTextError("pickscore needs an image and a text.", scorer=self.info.name)
        cut = [is_cut(self.text, text) for text in batch.texts or [""] * len(batch.images)]
        return [_score(*each) for each in zip(batch.images, batch.captions, cut, strict=True)]


def _score(image: Any, caption: Any, is_truncated: bool) -> Score:  # noqa: FBT001 - of one item
    scaled = np.asarray(caption, np.float32)
    scale = float(np.linalg.norm(scaled))
    product = float(np.dot(np.asarray(image, np.float32), scaled))
    value = min(scale, max(-scale, product))  # rounding can carry it past its range
    truncated = {"truncated": True} if is_truncated else {}
    return Score(value=value, details={"cosine": value / scale if scale else 0.0, **truncated})


def _spec(section: PickScoreSection) -> ClipSpec:
    if is_folder_name(section.model):
        named = ClipSection(checkpoint=Path(section.model), sha256=section.sha256)
    else:
        named = ClipSection(arch=f"{HUB}{section.model}", sha256=section.sha256)
    spec = ClipSpec.of(named).as_transformers
    return dataclasses.replace(spec, licence=LICENCE) if section.model == PUBLISHED else spec
