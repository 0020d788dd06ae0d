"""QualiCLIP: how good an image looks, without a reference and without having learnt from opinions.

Agnolucci et al., "Quality-Aware Image-Text Alignment for Opinion-Unaware Image Quality Assessment",
arXiv:2403.11176. For each pair of a good and a bad prompt, a softmax over the two scaled cosines gives the
probability of the good one; the score is the mean of these probabilities.

The public programs disagree about the scale: the authors' has 100, which is the default here; pyiqa has 50. With
`prompts: clipiqa`, OpenAI's weights and the authors' scale this is CLIP-IQA (Wang et al., AAAI 2023, arXiv:2207.12396).
The authors' programs ignore EXIF orientation and drop alpha: `images: {exif_orientation: ignore, alpha: drop}`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np
from pydantic import Field

from plumbline_models.core.errors import ConfigError, MissingImageError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.qualiclip.encoder import MAX_PIXELS, QualiClipEncoder, QualityEncoding
from plumbline_models.networks.qualiclip.prompts import CLIPIQA, QUALICLIP, QualityPrompts
from plumbline_models.weights.digest import SHORT
from plumbline_models.weights.paths import CLIP_PATHS, Paths

AUTHORS_SCALE: Final = 100.0  # fixed in the authors' program, whatever the checkpoint's own logit scale
MINI_QUALICLIP: Final = "mini-qualiclip"
_MIN_PIXELS = 10_000
_NAMED: Final = {"qualiclip": QUALICLIP, "clipiqa": CLIPIQA}
_Text = Annotated[str, Field(min_length=1)]


class QualiClipSection(ClipSection):
    """The section `qualiclip` of the configuration; with no CLIP named, the embedded `mini-qualiclip`."""

    scale: float = Field(AUTHORS_SCALE, gt=0, le=1000)
    """What cosines are multiplied with; 50 for pyiqa's numbers."""
    prompts: Literal["qualiclip", "clipiqa"] | Annotated[tuple[tuple[_Text, _Text], ...], Field(min_length=1)] = (
        "qualiclip"
    )
    """`qualiclip`: as the checkpoint stores them, else the paper's seven pairs; `clipiqa`: that paper's one pair; or
    pairs of a good and a bad prompt. All but stored ones need the checkpoint's text tower."""
    max_pixels: int = Field(MAX_PIXELS, ge=_MIN_PIXELS)
    """Images with more are scaled down to it, and their answers say so in `resized`."""


class QualiClip:
    """Mean probability of the good prompts.

    Args:
        image: Makes a `QualityEncoding` of each image.
        scale: What cosines are multiplied with.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="qualiclip",
        summary="Perceptual quality of the image, no reference, no opinion labels.",
        needs=frozenset({"image"}),
        low=0.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2403.11176",
        has_embedded_weights=True,
    )

    paths: ClassVar[Paths] = CLIP_PATHS

    def __init__(self, image: Encoder, *, scale: float = AUTHORS_SCALE, relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder | None = None
        self.relative_cost = relative_cost
        self.scale = scale
        self.conventions: Mapping[str, str] = {
            "value": "mean over prompt pairs of the good one's",
            "scale": f"{scale:g}",
        }

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid.
            UnknownArchError: There is no such architecture or tag, or it is no CLIP ResNet.
            CheckpointError: There are no such weights, or they are not those that the section means.
        """
        section = parse_section(QualiClipSection, options, scorer=cls.info.name)
        if section.arch is None and section.checkpoint is None:
            section = section.model_copy(update={"arch": MINI_QUALICLIP})
        spec = ClipSpec.of(section)
        if spec.beside:
            raise ConfigError("The section qualiclip takes neither image_checkpoint nor adapter.", scorer=cls.info.name)
        encoder = QualiClipEncoder(spec, _prompts(section), backend=context.backend, max_pixels=section.max_pixels)
        return cls(context.registry.take(encoder), scale=section.scale, relative_cost=encoder.gflop)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image.

        Args:
            batch: `images` holds a `QualityEncoding` for each item.

        Returns:
            Values in [0, 1], higher is better, 0.5 where no prompt says anything; `pairs` are the probabilities, in
            the order of the prompts; `resized` is the size at which the image was scored, if not its own.

        Raises:
            MissingImageError: The batch has no images.
        """
        if batch.images is None:
            raise MissingImageError("qualiclip needs an image.", scorer=self.info.name)
        return [self._score(encoding) for encoding in batch.images]

    def _score(self, encoding: QualityEncoding) -> Score:
        # A softmax over two is a sigmoid of their difference; as a tanh it cannot overflow.
        good = (1 + np.tanh(np.float32(self.scale / 2) * encoding.margins)) / 2
        details: dict[str, Any] = {"pairs": good.tolist()}
        if encoding.resized_to is not None:
            details["resized"] = {"height": encoding.resized_to[0], "width": encoding.resized_to[1]}
        return Score(value=float(good.mean()), details=details)


def _prompts(section: QualiClipSection) -> QualityPrompts:
    if isinstance(section.prompts, str):
        return _NAMED[section.prompts]
    digest = hashlib.sha256(json.dumps(section.prompts).encode()).hexdigest()
    return QualityPrompts(f"prompts-{digest[:SHORT]}", section.prompts)
