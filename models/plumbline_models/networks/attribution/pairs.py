"""A caption held against an image, before and after it is attributed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plumbline_models.core.arrays import Array, Embedding, TokenIds
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
    """Cosines of unit-norm embeddings: sums in float64, so that both forms of the attribution give the same.

    Args:
        captions: `[N, D]`, or `[D]` for all of the images.
        images: `[N, D]`, or `[D]` for one pair.
    """
    return np.asarray((captions.astype(np.float64) * images.astype(np.float64)).sum(axis=-1))


def read_attribution(pair: PreprocessedCaption, columns: Array, *, cosine: float) -> CaptionAttribution:
    """A pair's attribution, without what padding adds.

    Args:
        pair: Whose attribution it is.
        columns: At least one value per token, start of text first.
        cosine: With its image.
    """
    tokens = np.asarray(columns[1 : len(pair.tokenised.ids) - 1], dtype=np.float32)
    return CaptionAttribution(cosine, tokens, pair.tokenised)
