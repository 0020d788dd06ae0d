"""F-CLIPScore: alignment weighed by the words that the image does not show, and which words those are.

Nam et al., "Extract Free Dense Misalignment from CLIP", AAAI 2025, arXiv:2412.18404. Not to be mistaken for
"Fine-grained CLIPScore" (arXiv:2502.20034), which averages CLIPScores of noun phrases.

A word's attribution is the mean over its tokens; a word below epsilon is misaligned; the score is the sum of the
misaligned words' attributions times (1 - max(cosine, 0)). As in the authors' program the cosine is floored at 0 there.

We differ in how tokens are given to words: by character offsets, with punctuation left out. The authors' program
tokenises each word alone and counts, which shifts every later word where the sentence tokenises otherwise (`...`),
drops the template by its number of words, and raises on an empty caption and on some underscores. `compat: true`
groups as it does. Captions never become control tokens.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.attribution.encoder import NUM_BLOCKS, TEMPLATE, AttributionEncoder
from plumbline_models.networks.attribution.jacobian_cache import CaptionMatrices
from plumbline_models.networks.attribution.pairs import CaptionAttribution
from plumbline_models.networks.attribution.words import Word, compat_words, split_words, words_from_tokens
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.tokenizer import ClipTokenizer
from plumbline_models.weights.paths import CLIP_PATHS, Paths

EPSILON: Final = -5e-5  # the authors' program; theirs for Rich-HF with ViT-B/32 is -1e-5
_PUNCTUATION: Final = frozenset('.,!"?;:" ')  # what the authors' program passes over in mode `threshold`


class FClipScoreSection(ClipSection):
    """The section `fclipscore` of the configuration."""

    epsilon: Annotated[float, Field(le=0.0, allow_inf_nan=False)] | None = None
    """Words below are misaligned; none: what the checkpoint's own configuration says, else -5e-5."""
    mode: Literal["threshold", "most_negative"] = "threshold"
    """`threshold`: every word below epsilon. `most_negative`: the lowest word alone, as the authors do for FOIL."""
    layers: Annotated[int, Field(ge=1)] = NUM_BLOCKS
    """Last blocks of the text tower that are averaged."""
    template: str = TEMPLATE
    """Words put before every text, with the space that ends them."""
    compat: bool = False
    """Group tokens into words as the authors' program does."""


class FClipScore:
    """The sum of the misaligned words' attributions, weighed less the better the whole text matches.

    Args:
        image: Of the same CLIP as `pair`.
        pair: Attributes captions to images.
        section: The scorer's settings.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="fclipscore",
        summary="Global alignment weighed by the misaligned words, and which words those are. "
        "A text without words scores 0, the best value.",
        needs=frozenset({"image", "text"}),
        low=None,
        high=0.0,
        higher_is_better=True,
        source="arXiv:2412.18404",
        has_embedded_weights=True,
    )

    paths: ClassVar[Paths] = CLIP_PATHS

    def __init__(self, image: Encoder, pair: Encoder, section: FClipScoreSection, *, relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder = pair
        self.relative_cost = relative_cost
        self._section = section
        self._epsilon = EPSILON if section.epsilon is None else section.epsilon
        self._compat_tokenizer = ClipTokenizer(compat=True)
        self.conventions: Mapping[str, str] = {
            "value": "sum of misaligned attributions * (1 - max(cosine, 0))",
            "mode": section.mode,
            "epsilon": f"{self._epsilon:g}",
            "layers": str(section.layers),
            "template": section.template,
            "words": "as the authors count tokens" if section.compat else "by character offsets",
        }

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid, or the text tower does not show its attention.
            UnknownArchError: open_clip has no such architecture or tag.
            CheckpointError: There are no such weights, or they are not those that the section means.
        """
        section = parse_section(FClipScoreSection, options, scorer=cls.info.name)
        spec = ClipSpec.of(section)
        image, text = ClipImageEncoder(spec, context.backend), ClipTextEncoder(spec, context.backend)
        if section.epsilon is None:
            section = section.model_copy(update={"epsilon": spec.arch.epsilon})
        matrices = CaptionMatrices(context.max_caption_bytes, on_lookup=context.on_lookup)
        pair = AttributionEncoder(
            spec, context.exact, template=section.template, num_blocks=section.layers, matrices=matrices
        )
        cost = image.gflop + text.gflop
        return cls(context.registry.take(image), context.registry.take(pair), section, relative_cost=cost)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each pair.

        Args:
            batch: `pairs` holds a `CaptionAttribution` for each item, `texts` its caption.

        Returns:
            Values of at most 0, nearer 0 is better; `cosine` as it is; `words` in text order, each with its offsets
            into the caption, its attribution and whether it is misaligned; `truncated` where the caption was cut.

        Raises:
            MissingTextError: The batch has no pairs.
        """
        if batch.pairs is None or batch.texts is None:
            raise MissingTextError("fclipscore needs an image and a text.", scorer=self.info.name)
        return [self._score(pair, text) for pair, text in zip(batch.pairs, batch.texts, strict=True)]

    def _score(self, pair: CaptionAttribution, text: str) -> Score:
        words = [(word, value) for word, value in self._attribute(pair, text) if value is not None]
        misaligned = self._misaligned([value for _, value in words])
        total = math.fsum(words[index][1] for index in misaligned)
        details: dict[str, Any] = {
            "cosine": pair.cosine,
            "words": [
                {
                    "text": word.text,
                    "start": word.start,
                    "end": word.end,
                    "attribution": value,
                    "misaligned": index in misaligned,
                }
                for index, (word, value) in enumerate(words)
            ],
        }
        if pair.tokenised.truncated:
            details["truncated"] = True
        return Score(value=min(0.0, total * (1.0 - max(pair.cosine, 0.0))), details=details)

    def _attribute(self, pair: CaptionAttribution, text: str) -> list[tuple[Word, float | None]]:
        """Each word with its value; None where none of its tokens was read."""
        template = self._section.template
        if self._section.compat:
            words, groups = compat_words(text, template, pair.tokenised, tokenizer=self._compat_tokenizer)
            if self._section.mode == "threshold":
                kept = [index for index, word in enumerate(words) if word.text not in _PUNCTUATION]
                words, groups = [words[index] for index in kept], [groups[index] for index in kept]
        else:
            words = split_words(text)
            groups = words_from_tokens(pair.tokenised, words, offset=len(template))
        return [(word, _mean(pair, group)) for word, group in zip(words, groups, strict=True)]

    def _misaligned(self, values: Sequence[float]) -> frozenset[int]:
        if self._section.mode == "most_negative":
            return frozenset([min(range(len(values)), key=values.__getitem__)]) if values else frozenset()
        return frozenset(index for index, value in enumerate(values) if value < self._epsilon)


def _mean(pair: CaptionAttribution, tokens: Sequence[int]) -> float | None:
    if not tokens:
        return None
    return math.fsum(float(pair.tokens[token]) for token in tokens) / len(tokens)
