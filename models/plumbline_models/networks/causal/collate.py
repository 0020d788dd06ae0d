"""Causal prompts as the arrays of one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Array, TokenIds
from plumbline_models.networks.causal.image_encoder import ImageInPrompt
from plumbline_models.networks.causal.prompts import PromptTail

MIN_TAIL_TOKENS: Final = 2
"""A tracer takes a length of one for a constant."""


@dataclass(frozen=True, slots=True)
class PreprocessedQuestion:
    """A caption's question, and the image that it is about."""

    image: ImageInPrompt
    tail: PromptTail
    num_stock: int
    """Of the tail's ids, those with which nearly all tails begin."""

    @property
    def num_read(self) -> int:
        """Tokens that are read for this caption alone, beside others that begin alike."""
        return len(self.tail.ids) - self.num_stock


@dataclass(frozen=True, slots=True)
class PromptPrefix:
    """All that the questions about one image begin with."""

    ids: TokenIds
    """`[S]`, placeholders where the image stands."""
    positions: TokenIds
    """`[axes, S]`"""
    num_head: int
    """Of the ids, those up to and including the image; the others are the beginning of nearly all tails."""


def count_shared(batch: Sequence[PreprocessedQuestion]) -> int:
    """How much of the stock beginning every tail of a batch has, with at least one token left to read in each.

    Args:
        batch: At least one, all about one image.
    """
    return min(min(each.num_stock, each.tail.num_prompt - 1) for each in batch)


def arrange_questions(batch: Sequence[PreprocessedQuestion], prefix: PromptPrefix) -> dict[str, Array]:
    """The inputs of `causal_answer`.

    Args:
        batch: At least one, all about one image.
        prefix: Of that image.
    """
    return {**arrange_tails(batch, prefix), "answer_ids": _pad([each.tail.answer_ids for each in batch])}


def arrange_tails(batch: Sequence[PreprocessedQuestion], prefix: PromptPrefix) -> dict[str, Array]:
    """Of those inputs, what any graph takes that reads tails behind a prefix.

    Args:
        batch: At least one, all about one image.
        prefix: Of that image.
    """
    image, shared = batch[0].image, count_shared(batch)
    tails = [each.tail for each in batch]
    starts = [np.arange(tail.num_prompt - 1 - shared, len(tail.ids) - shared) for tail in tails]
    return {
        "image_encodings": image.tokens.astype(np.float32, copy=False),
        "image_key": np.array(image.key, dtype=np.int64),
        "prefix_ids": prefix.ids,
        "prefix_positions": prefix.positions,
        "num_shared": np.array([prefix.num_head + shared], dtype=np.int64),
        "tail_ids": _pad([tail.ids[shared:] for tail in tails], least=MIN_TAIL_TOKENS),
        "scored_at": _pad(starts),
    }


def lay_out(
    head_ids: TokenIds, stock_ids: TokenIds, *, placeholder_id: int, grid: tuple[int, int] | None
) -> PromptPrefix:
    """The prefix with its positions.

    Args:
        head_ids: Up to and including the image.
        stock_ids: What nearly all tails begin with.
        placeholder_id: What stands for the image's tokens.
        grid: Rows and columns of the image where positions have three axes (M-RoPE): each of its tokens then stands
            at the image's start plus (0, row, column), and what follows goes on after the largest. None: one axis.
    """
    ids = np.concatenate([head_ids, stock_ids])
    if grid is None:
        return PromptPrefix(ids, np.arange(len(ids), dtype=np.int64)[None], len(head_ids))
    first = int(np.argmax(ids == placeholder_id))
    rows, columns = grid
    in_image = first + np.stack([np.zeros(rows * columns, np.int64), *np.indices(grid).reshape(2, -1)])
    behind = first + max(grid) + np.arange(len(ids) - first - rows * columns, dtype=np.int64)
    parts = [np.tile(np.arange(first, dtype=np.int64), (3, 1)), in_image, np.tile(behind, (3, 1))]
    return PromptPrefix(ids, np.concatenate(parts, axis=1).astype(np.int64), len(head_ids))


def _pad(texts: Sequence[TokenIds], *, least: int = 1) -> TokenIds:
    """`[N, L]`, padded on the right with the last entry of each."""
    length = max(least, *map(len, texts))
    return np.stack([np.pad(ids, (0, length - len(ids)), mode="edge") for ids in texts]).astype(np.int64)
