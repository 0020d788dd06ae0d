"""A caption held against an image, before and after it is attributed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plumbline_models.core.arrays import Array, Embedding, TokenIds
from plumbline_models.core.errors import EngineError, PlumblineError
from plumbline_models.networks.clip.tokenizer import Tokenised


@dataclass(frozen=True, slots=True)
class PreprocessedCaption:
    """A caption behind its template, and the image that it is held against."""

    tokenised: Tokenised
    tail_ids: TokenIds
    """`[L]`: what stands behind the prefix."""
    image_embedding: Embedding

    @property
    def caption(self) -> bytes:
        """Equal for equal captions."""
        return self.tail_ids.tobytes()


@dataclass(frozen=True, slots=True)
class CaptionAttribution:
    """One pair: the cosine, and what each token of template and caption adds to it."""

    cosine: float
    tokens: Array
    """`[E - 1]` float32, start and end of text left out; token `k` stands at `tokenised.spans[k]`."""
    tokenised: Tokenised


def by_caption(batch: Sequence[PreprocessedCaption]) -> list[list[int]]:
    """Places in the batch that hold the same caption, caption by caption."""
    places: dict[bytes, list[int]] = {}
    for index, pair in enumerate(batch):
        places.setdefault(pair.caption, []).append(index)
    return list(places.values())


def cosines_of(captions: Array, images: Array) -> Array:
    """Cosines `[N]` of unit rows: sums in float64, so that both forms of the attribution give the same.

    Args:
        captions: `[N, D]`, or `[D]` for all of the images.
        images: `[N, D]`.
    """
    return np.asarray((captions.astype(np.float64) * images.astype(np.float64)).sum(axis=-1))


def read_attribution(pair: PreprocessedCaption, cosine: float, columns: Array) -> CaptionAttribution | PlumblineError:
    """Take a pair's answer out of a row that may be longer.

    Args:
        pair: Whose answer it is.
        cosine: With its image.
        columns: One value a token, start of text first.

    Returns:
        An error where one of them is no number.
    """
    tokens = np.asarray(columns[1 : len(pair.tokenised.ids) - 1], dtype=np.float32)
    if not (math.isfinite(cosine) and np.isfinite(tokens).all()):
        return EngineError("The engine gave no number for this pair.")
    return CaptionAttribution(cosine, tokens, pair.tokenised)
