"""Pairs to measure on: a picture by the second renderer, its caption, and one foil."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from plumbline_models.core.arrays import Pixels
from plumbline_training.captions import Span, changed_words, sample_manner, word
from plumbline_training.descriptions import describe
from plumbline_training.evaluation.fields import render
from plumbline_training.foils import KINDS, FoilKind, foil
from plumbline_training.sampling import sample_scene


@dataclass(frozen=True, slots=True)
class Pair:
    """One picture with a text that is true of it and one that is not."""

    image: Pixels
    kind: FoilKind
    truth: str
    foil: str
    changed: tuple[Span, ...]
    """The foil's changed words, as character offsets."""
    words: tuple[Span, ...]
    """All words of the foil, likewise."""
    truth_words: tuple[Span, ...]


def draw_pairs(num_pairs: int, seed: int) -> Iterator[Pair]:
    """Fresh pairs, the kinds of foil taking turns."""
    rng = np.random.default_rng(seed)
    for place in range(num_pairs):
        yield _draw(KINDS[place % len(KINDS)], rng)


def _draw(kind: FoilKind, rng: Generator) -> Pair:
    while True:
        scene = sample_scene(rng)
        truth = describe(scene, rng)
        false = foil(kind, truth, scene, rng)
        if false is None:
            continue
        manner = sample_manner(rng)
        caption, wrong = word(truth, manner), word(false.description, manner)
        changed = changed_words(caption, wrong)
        return Pair(render(scene), kind, caption.text, wrong.text, changed, wrong.words, caption.words)
