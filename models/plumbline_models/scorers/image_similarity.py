"""How alike two images are: the cosine of their encodings.

CLIP-Image-Score of Ge et al., "Visual Fact Checker: Enabling High-Fidelity Detailed Caption Generation", CVPR 2024,
arXiv:2404.19752, compares an image with what a generator makes of its caption. The same cosine finds near duplicates,
and says how much of an image an edit has kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from plumbline_models.core.errors import MissingImageError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.encoders import ClipImageEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.two_towers import cosine
from plumbline_models.weights.paths import CLIP_PATHS, Paths


class ImageSimilarity:
    """The cosine of an image and a reference image.

    Args:
        image: Of a CLIP or SigLIP; encodes both.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="image_similarity",
        summary="How alike the image and the reference image are.",
        needs=frozenset({"image", "reference_image"}),
        low=-1.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2404.19752",
    )
    paths: ClassVar[Paths] = CLIP_PATHS

    def __init__(self, image: Encoder, *, relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {"value": "cosine"}
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
        spec = ClipSpec.of(parse_section(ClipSection, options, scorer=cls.info.name))
        image = ClipImageEncoder(spec, context.backend)
        return cls(context.registry.take(image), relative_cost=2 * image.gflop)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image against the reference image at the same index.

        Args:
            batch: Unit-norm `images` and `reference_images`.

        Returns:
            Cosines in [-1, 1], higher is more alike; 1 for equal pixels.

        Raises:
            MissingImageError: The batch lacks images of either kind.
        """
        if batch.images is None or batch.reference_images is None:
            raise MissingImageError("image_similarity needs an image and a reference_image.", scorer=self.info.name)
        return [Score(cosine(*pair)) for pair in zip(batch.images, batch.reference_images, strict=True)]
