"""Leaning: the cosine of CLIP's two embeddings, of which one leans by what a file says when the encoder is loaded.

A scorer of another package whose numbers change though neither its weights nor its conventions do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from plumbline_models.core.arrays import Array, Embedding
from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec


class LeaningEncoder(ClipImageEncoder):
    """CLIP's image encoder, a little to one side."""

    key = "leaning/image"
    lean = 0.0
    file = Path()

    def load(self) -> None:
        self.lean = float(self.file.read_text(encoding="utf-8"))
        super().load()

    def _read(self, preprocessed: Any, outputs: Mapping[str, Array]) -> Embedding:
        return super()._read(preprocessed, outputs) + np.float32(self.lean)


class Leaning:
    """The cosine."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="leaning",
        summary="How near image and text lie in CLIP's space, nearly.",
        needs=frozenset({"image", "text"}),
        low=None,
        high=None,
        higher_is_better=True,
        source="",
    )

    def __init__(self, image: Encoder, text: Encoder) -> None:
        self.image: Encoder = image
        self.text: Encoder = text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {}
        self.relative_cost = 1.0

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        spec = ClipSpec.of(ClipSection())
        image = LeaningEncoder(spec, context.backend)
        image.file = Path(options["file"])
        return cls(context.registry.take(image), context.registry.take(ClipTextEncoder(spec, context.backend)))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        if batch.images is None or batch.captions is None:
            raise MissingTextError("leaning needs an image and a text.")
        return [Score(float(np.dot(*each))) for each in zip(batch.images, batch.captions, strict=True)]
