"""Batches to train the embedded CLIP on: pictures, and for each a true caption with foils of its own."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from plumbline_training.captions import sample_manner, word
from plumbline_training.claims import claims_of, truths_of
from plumbline_training.descriptions import Description, describe
from plumbline_training.foils import Foil, foils
from plumbline_training.scenes import Scene
from plumbline_training.vocabulary import Vocabulary

NUM_FOILS = 4
STRANGER_SHARE = 0.06  # of captions that get one word which scenes never use


@dataclass(frozen=True, slots=True)
class Wordings:
    """Texts for a batch of scenes, each scene's true caption first among its own."""

    rows: Tensor
    """`[T, L]` token rows."""
    owners: Tensor
    """`[T]`: the scene that each text was written for."""
    truths: Tensor
    """`[N]`: the place of each scene's true caption among the texts."""
    claims: Tensor
    """`[T, claims]`: what each text says."""
    true_of_scenes: Tensor
    """`[N, claims]`: what is so."""


def write(scenes: list[Scene], vocabulary: Vocabulary, rng: Generator) -> Wordings:
    """Write captions and foils for scenes."""
    written = [_candidates(scene, rng) for scene in scenes]
    lengths = [len(texts) for _, texts in written]
    return Wordings(
        rows=torch.from_numpy(vocabulary.batch([text for _, texts in written for text in texts])),
        owners=torch.from_numpy(np.repeat(np.arange(len(scenes)), lengths)),
        truths=torch.from_numpy(np.cumsum([0, *lengths[:-1]])),
        claims=torch.from_numpy(np.stack([claims_of(one) for found, _ in written for one in found])),
        true_of_scenes=torch.from_numpy(np.stack([truths_of(scene) for scene in scenes])),
    )


def _hardest_first(truth: Description, scene: Scene, rng: Generator) -> list[Foil]:
    """Foils of all kinds, the changed relation before the others: only it makes relations worth learning."""
    return sorted(foils(truth, scene, rng), key=lambda foil: foil.kind != "relation")


def _candidates(scene: Scene, rng: Generator) -> tuple[list[Description], list[str]]:
    """A true caption and up to four foils of different kinds, all in one manner."""
    truth, manner = describe(scene, rng), sample_manner(rng)
    found = [truth, *(foil.description for foil in islice(_hardest_first(truth, scene, rng), NUM_FOILS))]
    texts = [word(description, manner).text for description in found]
    if rng.random() < STRANGER_SHARE:
        texts = [text.replace(" ", " quux ", 1) for text in texts]
    return found, texts
