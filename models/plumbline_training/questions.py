"""Batches to train the embedded CLIP-FlanT5 on: scenes, and questions about them whose answer is known."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from plumbline_models.text.questions import DEFAULT_QUESTION, SLOT
from plumbline_training.captions import Caption, Span, changed_words, sample_manner, word
from plumbline_training.descriptions import Description, describe
from plumbline_training.foils import KINDS, FoilKind, foil
from plumbline_training.scenes import Scene

NUM_FOILS = 3
HARD: tuple[FoilKind, ...] = ("relation", "count", "binding", "background")
HARD_FIRST = 0.4  # share of scenes whose foils are sought among the hard kinds first
BACKGROUND_KEPT = 0.3  # share of short descriptions that still name a background
STRANGER_SHARE = 0.05  # of captions that get one word which scenes never use
BEFORE = DEFAULT_QUESTION.split(SLOT)[0]


@dataclass(frozen=True, slots=True)
class QuestionBatch:
    """Questions about a batch of scenes."""

    tails: Tensor
    """`[T, L]` token ids of whole questions with end-of-sequence, padded with 0."""
    owners: Tensor
    """`[T]`: the scene that each is asked about."""
    is_true: Tensor
    """`[T]` bool: whether the answer is yes."""
    wrong: Tensor
    """`[T, L]` bool: pieces of words that make the caption false."""
    counted: Tensor
    """`[T, L]` bool: pieces of the caption."""


class QuestionDrawer:
    """Draws questions about scenes.

    Args:
        pieces: The `spiece.model`.
    """

    def __init__(self, pieces: Path) -> None:
        self.pieces = SentencePieceProcessor(model_file=str(pieces))

    def draw(self, scenes: list[Scene], rng: Generator, *, short: float) -> QuestionBatch:
        """Ask about each scene with one true caption and up to three foils.

        Args:
            scenes: What is asked about.
            rng: Draws the captions.
            short: Share of scenes of which one group only is named.
        """
        ids, wrong, counted, owners, is_true = [], [], [], [], []
        for owner, scene in enumerate(scenes):
            for place, (caption, changed) in enumerate(_captions(scene, rng, is_short=bool(rng.random() < short))):
                one = self._cut(caption.text, changed)
                ids.append(torch.from_numpy(one[0]))
                wrong.append(torch.from_numpy(one[1]))
                counted.append(torch.from_numpy(one[2]))
                owners.append(owner)
                is_true.append(place == 0)
        return QuestionBatch(
            tails=pad_sequence(ids, batch_first=True),
            owners=torch.tensor(owners),
            is_true=torch.tensor(is_true),
            wrong=pad_sequence(wrong, batch_first=True),
            counted=pad_sequence(counted, batch_first=True),
        )

    def _cut(
        self, text: str, changed: tuple[Span, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Ids of the question, which of its pieces lie in changed words, and which in the caption."""
        cut = self.pieces.encode(DEFAULT_QUESTION.replace(SLOT, text), return_type="proto").pieces
        spans = [(piece.begin - len(BEFORE), piece.end - len(BEFORE)) for piece in cut]
        wrong = [any(a < end and b > start for start, end in changed) for a, b in spans]
        counted = [a >= 0 and b <= len(text) for a, b in spans]
        ids = [piece.id for piece in cut]
        return np.array([*ids, self.pieces.eos_id()]), np.array([*wrong, False]), np.array([*counted, False])


def _captions(scene: Scene, rng: Generator, *, is_short: bool) -> Iterator[tuple[Caption, tuple[Span, ...]]]:
    """The true caption, then foils with their changed words, all in one manner."""
    truth, manner = describe(scene, rng), sample_manner(rng)
    if truth.relation is None and truth.background is None:
        truth = describe(scene, rng)  # a second chance to say what few captions say
    if is_short:
        truth = _shortened(truth, rng)
    caption = word(truth, manner)
    stranger = _strange_word(rng) if rng.random() < STRANGER_SHARE else None
    yield _with_stranger(caption, (), stranger)
    for false in islice(_foils(truth, scene, rng), NUM_FOILS):
        foiled = word(false, manner)
        yield _with_stranger(foiled, changed_words(caption, foiled), stranger)


def _shortened(truth: Description, rng: Generator) -> Description:
    mention = truth.mentions[int(rng.integers(len(truth.mentions)))]
    background = truth.background if rng.random() < BACKGROUND_KEPT else None
    return replace(truth, mentions=(mention,), relation=None, background=background)


def _foils(truth: Description, scene: Scene, rng: Generator) -> Iterator[Description]:
    """One foil of each kind that the description offers, often the hard kinds first."""
    kinds = [KINDS[int(k)] for k in rng.permutation(len(KINDS))]
    if rng.random() < HARD_FIRST:
        kinds.sort(key=lambda kind: kind not in HARD)
    for kind in kinds:
        found = foil(kind, truth, scene, rng)
        if found is not None:
            yield found.description


def _strange_word(rng: Generator) -> str:
    return "".join(chr(int(letter)) for letter in rng.integers(ord("a"), ord("z") + 1, size=int(rng.integers(2, 7))))


def _with_stranger(
    caption: Caption, changed: tuple[Span, ...], stranger: str | None
) -> tuple[Caption, tuple[Span, ...]]:
    """The same with a word in front, which changes nothing that is said."""
    if stranger is None:
        return caption, changed
    shift = len(stranger) + 1
    words = tuple((start + shift, end + shift) for start, end in caption.words)
    return Caption(f"{stranger} {caption.text}", words), tuple((start + shift, end + shift) for start, end in changed)
