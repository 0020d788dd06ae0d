"""A scorer of another package whose engine hangs for as long as a file is there, as one on a lost device does."""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_serve import assembly
from plumbline_serve.batching.batcher import BatchLimits

FILE, STUCK_S = "HANGS_WHILE_THERE", "STUCK_S"
"""The variables that name the file, and the seconds in place of the minute that a batch may take at least."""

setattr(assembly, "BatchLimits", functools.partial(BatchLimits, min_stuck_s=float(os.environ[STUCK_S])))  # noqa: B010


class HangingTextEncoder(ClipTextEncoder):
    """CLIP's, whose batches do not end."""

    def encode(self, batch: Sequence[Any]) -> Any:
        """As `Encoder.encode`."""
        while Path(os.environ[FILE]).exists():
            time.sleep(0.1)
        return super().encode(batch)


class Hanging:
    """The cosine."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="hanging",
        summary="How near image and text lie in CLIP's space.",
        needs=frozenset({"image", "text"}),
        low=-1.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2103.00020",
    )

    def __init__(self, image: Encoder, text: Encoder) -> None:
        self.image: Encoder = image
        self.text: Encoder = text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {}
        self.relative_cost = 1.0

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make it."""
        spec = ClipSpec.of(parse_section(ClipSection, options, scorer=cls.info.name))
        return cls(ClipImageEncoder(spec, context.backend), HangingTextEncoder(spec, context.backend))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image against the caption in the same row."""
        if batch.images is None or batch.captions is None:
            raise MissingTextError("hanging needs an image and a text.")
        return [Score(float(np.dot(*pair))) for pair in zip(batch.images, batch.captions, strict=True)]
