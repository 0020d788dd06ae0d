"""Agreement: the cosine of CLIP's two embeddings, moved to 0..1. A scorer of another package, in one file.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec


class Agreement:
    """(1 + cosine) / 2."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="agreement",
        summary="How near image and text lie in CLIP's space.",
        needs=frozenset({"image", "text"}),
        low=0.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2103.00020",
    )

    def __init__(self, image: Encoder, text: Encoder) -> None:
        self.image: Encoder = image
        self.text: Encoder = text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {"value": "(1 + cosine) / 2"}
        self.relative_cost = 1.0

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make it; an encoder that another scorer names as well is shared with it."""
        spec = ClipSpec.of(parse_section(ClipSection, options, scorer=cls.info.name))
        image, text = ClipImageEncoder(spec, context.backend), ClipTextEncoder(spec, context.backend)
        return cls(context.registry.take(image), context.registry.take(text))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image against the caption in the same row; values in [0, 1]."""
        if batch.images is None or batch.captions is None:
            raise MissingTextError("agreement needs an image and a text.")
        pairs = zip(batch.images, batch.captions, strict=True)
        return [Score((1 + float(np.dot(image, caption))) / 2) for image, caption in pairs]
