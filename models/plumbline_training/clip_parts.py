"""The losses of the stages in which the embedded CLIP is trained, by parts."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from plumbline_training.batches import Wordings, write
from plumbline_training.blame import blame_parts, write_blamed
from plumbline_training.pool import Pool
from plumbline_training.reading import draw_windows, reading_loss, shares_read
from plumbline_training.scenes import Scene
from plumbline_training.teacher import Teacher, hint_loss
from plumbline_training.towers import Watched, build_clip, encode_ragged, normalised
from plumbline_training.vocabulary import Vocabulary

TEXT_BATCH, TEACHER_BATCH, WINDOW_BATCH, JOINT_BATCH = 96, 64, 64, 48
Parts = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Material:
    """What batches are drawn from."""

    pool: Pool
    labels: NDArray[np.int8]
    vocabulary: Vocabulary
    shares: NDArray[np.float64]
    """How often each scene is drawn: pairs of objects that lie clearly to each other more often than others."""

    def words(self, chosen: NDArray[np.int64], rng: Generator) -> Wordings:
        """Captions and foils for some scenes of the pool."""
        return write(self.scenes(chosen), self.vocabulary, rng)

    def scenes(self, chosen: NDArray[np.int64]) -> list[Scene]:
        """Some scenes of the pool."""
        return [self.pool.scenes[int(k)] for k in chosen]


class Learner(nn.Module):
    """The CLIP with its scaffolds, and the teacher."""

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.watched = Watched(build_clip(num_rows))
        self.teacher = Teacher()

    @torch.no_grad()
    def hints(self, pixels: Tensor) -> list[Tensor]:
        """What the teacher sees, while it no longer learns."""
        self.teacher.eval()
        hints: list[Tensor] = self.teacher(pixels)[1]
        return hints


def text_parts(learner: Learner, material: Material, rng: Generator) -> Parts:
    """How far texts are from where their claims belong."""
    watched = learner.watched
    words = material.words(rng.integers(len(material.pool.scenes), size=TEXT_BATCH), rng)
    texts = encode_ragged(watched.clip, words.rows)
    homes = watched.homes(words.true_of_scenes)
    return {"astray_texts": watched.astray(texts, words.claims), **_among_own(watched, homes, texts, words)}


def teacher_parts(learner: Learner, material: Material, rng: Generator) -> Parts:
    """How well the teacher reads patches in windows."""
    windows = draw_windows(material.pool, material.labels, TEACHER_BATCH, rng)
    readings, _ = learner.teacher(windows.pixels)
    return {"reading": reading_loss(readings, windows.labels), **shares_read(readings, windows.labels)}


def window_parts(learner: Learner, material: Material, rng: Generator) -> Parts:
    """How well the image tower reads patches in windows, and how near it comes to what the teacher sees."""
    windows = draw_windows(material.pool, material.labels, WINDOW_BATCH, rng)
    readings, seen = learner.watched.read_windows(windows.pixels, windows.corners)
    return {
        "hints": hint_loss(seen, learner.hints(windows.pixels)),
        "reading": reading_loss(readings, windows.labels),
        **shares_read(readings, windows.labels),
    }


def joint_parts(learner: Learner, material: Material, rng: Generator, *, num_frozen: int) -> Parts:
    """Both towers together, on whole pictures, while the first image layers may rest."""
    met = Met.draw(learner, material, rng, num_frozen=num_frozen)
    labels = torch.from_numpy(material.labels[met.chosen]).long().flatten(1, 2)
    return {
        "reading": reading_loss(met.readings, labels),
        **shares_read(met.readings, labels),
        **_met_parts(learner.watched, met),
    }


def last_parts(learner: Learner, material: Material, rng: Generator, *, num_frozen: int) -> Parts:
    """The same, but captions are also told apart by what is so, and wrong words are to be blamed."""
    watched = learner.watched
    met = Met.draw(learner, material, rng, num_frozen=num_frozen)
    homes = watched.homes(met.words.true_of_scenes)
    at_home = {f"home_{name}": part for name, part in _among_own(watched, homes, met.texts, met.words).items()}
    blamed = write_blamed(material.scenes(met.chosen), material.vocabulary, rng)
    return {**_met_parts(watched, met), **at_home, **blame_parts(watched.clip, blamed, met.images)}


@dataclass(frozen=True, slots=True)
class Met:
    """A batch that both towers have embedded."""

    chosen: NDArray[np.int64]
    """`[N]`: numbers of the scenes."""
    words: Wordings
    images: Tensor
    """`[N, D]` unit-norm embeddings."""
    readings: Tensor
    """`[N, patches, classes]` logits of all labels."""
    texts: Tensor
    """`[T, D]` unit-norm embeddings."""

    @classmethod
    def draw(cls, learner: Learner, material: Material, rng: Generator, *, num_frozen: int) -> Self:
        """Draw scenes and captions and embed them; the first image layers may rest."""
        chosen = rng.choice(len(material.pool.scenes), size=JOINT_BATCH, p=material.shares)
        words = material.words(chosen, rng)
        images, readings = learner.watched(normalised(material.pool.images[chosen]), num_frozen=num_frozen)
        return cls(chosen, words, images, readings, encode_ragged(learner.watched.clip, words.rows))


def _met_parts(watched: Watched, met: Met) -> Parts:
    """How captions and pictures find each other, and how far both are from where their claims belong."""
    logits = watched.clip.logit_scale.exp() * met.images @ met.texts.T
    to_images = logits[:, met.words.truths].T
    cross_entropy = nn.functional.cross_entropy
    both_ways = cross_entropy(logits, met.words.truths) + cross_entropy(to_images, torch.arange(len(met.images)))
    return {
        "batch": both_ways / 2,
        "astray_images": watched.astray(met.images, met.words.true_of_scenes),
        "astray_texts": watched.astray(met.texts, met.words.claims),
        **_among_own(watched, met.images, met.texts, met.words),
    }


def _among_own(watched: Watched, images: Tensor, texts: Tensor, words: Wordings) -> Parts:
    """The loss of true captions against their foils, and the share that wins over all of them."""
    own = torch.arange(len(images))[:, None] == words.owners[None, :]
    logits = (watched.clip.logit_scale.exp() * images @ texts.T).masked_fill(~own, -torch.inf)
    right = (logits.argmax(dim=1) == words.truths).float().mean()
    return {"foils": nn.functional.cross_entropy(logits, words.truths), "right": right.detach()}
