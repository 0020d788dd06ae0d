"""Mean cosine of an image with a caption and with its phrases: a part that is not shown lowers it.

Oh and Hwang, "Fine-grained CLIPScore", arXiv:2502.20034, which takes the nouns of the caption for its phrases and calls
the mean F-CLIPScore: not to be mistaken for `fclipscore`. Here the phrases are the caller's, of any words, so that no
tagger is needed. The authors' mean is of logits: this value times the CLIP's logit scale.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.two_towers import Towers, TowersSection, captioned, cosine, truncated
from plumbline_models.weights.paths import CLIP_PATHS, Paths


class PhraseClipScore:
    """The mean of the caption's cosine and of those of its phrases.

    Args:
        towers: Of one CLIP.
        template: Words that stand before every text.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="phrase_clipscore",
        summary="How well the text and each of its phrases describe the image, on average.",
        needs=frozenset({"image", "text", "phrases"}),
        low=-1.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2502.20034",
    )
    paths: ClassVar[Paths] = CLIP_PATHS

    def __init__(self, towers: Towers, *, template: str = "") -> None:
        self.image: Encoder = towers.image
        self.text: Encoder = towers.text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {
            "value": "mean of the cosines of the text and of each phrase",
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
        """Score each image against the caption and the phrases at the same index.

        Args:
            batch: Unit-norm `images`, `captions` and `phrases`, and the texts of the latter two.

        Returns:
            Values in [-1, 1], higher is better; `cosine` of the caption; `phrases`, each with its `text` and `cosine`,
            in order; `truncated` where the caption or a phrase was cut.

        Raises:
            MissingTextError: The batch has no images, captions or phrases.
        """
        pairs = captioned(batch, self.text, scorer=self.info.name)
        if batch.phrases is None or batch.phrase_texts is None:
            raise MissingTextError("phrase_clipscore needs phrases.", scorer=self.info.name)
        scores: list[Score] = []
        for (image, caption, said), phrases, texts in zip(pairs, batch.phrases, batch.phrase_texts, strict=True):
            whole, parts = cosine(image, caption), [cosine(image, each) for each in phrases]
            entries = [{"text": text, "cosine": part} for text, part in zip(texts, parts, strict=True)]
            details = {"cosine": whole, "phrases": entries, **said, **truncated(self.text, texts)}
            scores.append(Score((whole + sum(parts)) / (1 + len(parts)), details))
        return scores
