"""CLIP's two towers as scorers take them: opened and shared, and the cosines of their encodings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline_models.core.errors import MissingTextError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.scaled import ScaledTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.templated import TemplatedTextEncoder
from plumbline_models.networks.clip.tokens import is_cut


class TowersSection(ClipSection):
    """A section of the configuration that names a CLIP for images and texts."""

    template: str = ""
    """Words put before every text, with the space that ends them."""


@dataclass(frozen=True, slots=True)
class Towers:
    """The encoders of one CLIP, into one space.

    Args:
        image: Its encodings have unit norm.
        text: The same, unless they are scaled.
        image_gflop: Per image.
        text_gflop: Per text.
    """

    image: Encoder
    text: Encoder
    image_gflop: float
    text_gflop: float

    @classmethod
    def open(cls, spec: ClipSpec, context: BuildContext, *, template: str = "", is_scaled: bool = False) -> "Towers":
        """Make both encoders, or take those that other scorers have; loads no weights.

        Args:
            spec: Which CLIP.
            context: What scorers are built with; encoders are shared through it.
            template: Words put before every text.
            is_scaled: Whether encodings of texts have the checkpoint's `exp(logit_scale)` as their length.
        """
        image, text = ClipImageEncoder(spec, context.backend), ClipTextEncoder(spec, context.backend)
        shared = context.registry.take(text)
        if template:
            shared = context.registry.take(TemplatedTextEncoder(shared, template))
        if is_scaled:
            shared = context.registry.take(ScaledTextEncoder(shared, spec))
        return cls(context.registry.take(image), shared, image.gflop, text.gflop)


def captioned(batch: Embedded, text: Encoder, *, scorer: str) -> list[tuple[Encoding, Encoding, dict[str, Any]]]:
    """Each image of a batch with its caption.

    Args:
        batch: `images` and `captions`, index i belonging together, and the `texts` of the captions.
        text: What encoded the captions.
        scorer: Its name, for the error.

    Returns:
        Image, caption, and `truncated` as a score's detail where the caption was cut.

    Raises:
        MissingTextError: The batch has no images or no captions.
    """
    if batch.images is None or batch.captions is None:
        raise MissingTextError(f"{scorer} needs an image and a text.", scorer=scorer)
    texts = batch.texts or [""] * len(batch.images)
    cut = [truncated(text, [each]) for each in texts]
    return list(zip(batch.images, batch.captions, cut, strict=True))


def truncated(text: Encoder, texts: Sequence[str]) -> dict[str, Any]:
    """A score's detail `truncated`, where an encoder leaves out the end of one of the texts; else none."""
    return {"truncated": True} if any(is_cut(text, each) for each in texts) else {}


def cosine(one: Encoding, other: Encoding) -> float:
    """The cosine of two encodings of unit norm, in [-1, 1]."""
    return _within(1.0, one, other)


def scaled_cosine(image: Encoding, caption: Encoding) -> tuple[float, float]:
    """The cosine of an encoding of unit norm and one that has a scale as its length.

    Returns:
        Their cosine times the scale, and the scale.
    """
    scale = float(np.linalg.norm(np.asarray(caption, np.float32)))
    return _within(scale, image, caption), scale


def _within(bound: float, one: Encoding, other: Encoding) -> float:
    """The product of two vectors; rounding can carry it past its range."""
    product = float(np.dot(np.asarray(one, np.float32), np.asarray(other, np.float32)))
    return min(bound, max(-bound, product))
