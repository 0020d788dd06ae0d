"""RefCLIPScore: how well a caption fits an image and what others wrote about it.

Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP 2021, arXiv:2104.08718,
section 3: the harmonic mean of CLIPScore and of the largest cosine of the caption and a reference, floored at zero.

The authors' program does not floor the references' cosine, as the paper does, so that its value can be negative or
very large; here it is floored. Neither bounds CLIPScore by 1, so that values reach 10/7: the program gives 1.14 for
features that are alike (`tests/golden/sets/clipscore.json`). It puts "A photo depicts " before captions and
references; `template` does here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.two_towers import Towers, TowersSection, captioned, cosine, truncated
from plumbline_models.weights.paths import CLIP_PATHS, Paths

RESCALE: Final = 2.5  # CLIPScore's, section 3
HIGHEST: Final = 2 * RESCALE / (RESCALE + 1)  # both cosines 1


class RefClipScore:
    """The harmonic mean of CLIPScore and of the caption's likeness to its references.

    Args:
        towers: Of one CLIP.
        template: Words that stand before every text.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="refclipscore",
        summary="How well the text describes the image, beside reference captions of the image.",
        needs=frozenset({"image", "text", "references"}),
        low=0.0,
        high=HIGHEST,
        higher_is_better=True,
        source="arXiv:2104.08718",
    )
    paths: ClassVar[Paths] = CLIP_PATHS

    def __init__(self, towers: Towers, *, template: str = "") -> None:
        self.image: Encoder = towers.image
        self.text: Encoder = towers.text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {
            "value": f"harmonic mean of {RESCALE} * max(cosine, 0) and max(reference_cosine, 0)",
            "reference_cosine": "largest of the references",
            "template": template,
        }
        self.relative_cost = towers.image_gflop + 2 * towers.text_gflop

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
        return cls(towers, template=section.template)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image against the caption and the references at the same index.

        Args:
            batch: Unit-norm `images`, `captions` and `references`, and the texts of the latter two.

        Returns:
            Values in [0, 1.43], higher is better, 0 where one of the cosines is negative; `cosine` of image and caption
            and `reference_cosine`, in [-1, 1]; `truncated` where the caption or a reference was cut.

        Raises:
            MissingTextError: The batch has no images, captions or references.
        """
        pairs = captioned(batch, self.text, scorer=self.info.name)
        if batch.references is None:
            raise MissingTextError("refclipscore needs references.", scorer=self.info.name)
        texts = batch.reference_texts or [()] * len(pairs)
        cut = [{**said, **truncated(self.text, each)} for (_, _, said), each in zip(pairs, texts, strict=True)]
        columns = zip(pairs, batch.references, cut, strict=True)
        return [_score(pair[0], pair[1], references, said) for pair, references, said in columns]


def _score(image: Encoding, caption: Encoding, references: Sequence[Encoding], said: Mapping[str, Any]) -> Score:
    of_image = cosine(image, caption)
    of_references = max(cosine(caption, each) for each in references)
    clipscore, likeness = RESCALE * max(of_image, 0.0), max(of_references, 0.0)
    total = clipscore + likeness
    value = 2 * clipscore * likeness / total if total > 0 else 0.0
    return Score(value, {"cosine": of_image, "reference_cosine": of_references, **said})
