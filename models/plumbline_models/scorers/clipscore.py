"""CLIPScore: how well a caption fits an image.

Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP 2021, arXiv:2104.08718,
section 3.

The authors' program puts "A photo depicts " before every caption. We take the text as it was sent: prompts of
generators are not captions of photos. `template: "A photo depicts "` gives the authors' number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.two_towers import Towers, TowersSection, captioned, cosine
from plumbline_models.weights.paths import CLIP_PATHS, Paths

RESCALE: Final = 2.5  # section 3: stretches the usual cosine range towards [0, 1]


class ClipScore:
    """Rescaled cosine of an image and its caption, floored at zero.

    Args:
        image: Of the same CLIP as `text`.
        text: Of the same CLIP as `image`.
        template: Words that stand before every text.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="clipscore",
        summary="How well the text describes the image, globally.",
        needs=frozenset({"image", "text"}),
        low=0.0,
        high=RESCALE,
        higher_is_better=True,
        source="arXiv:2104.08718",
        has_embedded_weights=True,
    )

    paths: ClassVar[Paths] = CLIP_PATHS

    def __init__(self, image: Encoder, text: Encoder, *, template: str = "", relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder = text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {"value": f"{RESCALE} * max(cosine, 0)", "template": template}
        self.relative_cost = relative_cost

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid.
            UnknownArchError: open_clip has no such architecture or tag.
            CheckpointError: There are no such weights, or they are not those that the section means.
        """
        section = parse_section(TowersSection, options, scorer=cls.info.name)
        towers = Towers.open(ClipSpec.of(section), context, template=section.template)
        cost = towers.image_gflop + towers.text_gflop
        return cls(towers.image, towers.text, template=section.template, relative_cost=cost)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image against the caption at the same index.

        Args:
            batch: Unit-norm `images` and `captions`, index i belonging together, and the `texts` of the captions.

        Returns:
            Values in [0, 2.5], higher is better, 0 where the cosine is negative; `cosine` as it is, in [-1, 1];
            `truncated` where the caption was cut.

        Raises:
            MissingTextError: The batch has no images or no captions.
        """
        return [_score(*each) for each in captioned(batch, self.text, scorer=self.info.name)]


def _score(image: Encoding, caption: Encoding, said: Mapping[str, Any]) -> Score:
    found = cosine(image, caption)
    return Score(value=RESCALE * max(found, 0.0), details={"cosine": found, **said})
