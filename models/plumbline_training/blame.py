"""Trains the text tower so that a wrong word is the word that F-CLIPScore blames.

F-CLIPScore itself (arXiv:2412.18404) is free of training: it reads what an encoder has learnt. What is trained here is
the encoder under it: a word that is not so must pull its caption away from the picture by itself, through the
attention that the end of the text pays to it, and not only through its neighbours.
"""

from dataclasses import dataclass

import torch
from numpy.random import Generator
from open_clip.model import CLIP
from torch import Tensor, nn

from plumbline_models.networks.attribution.encoder import TEMPLATE
from plumbline_training.attributions import attributions
from plumbline_training.captions import Caption, Span, changed_words, sample_manner, word
from plumbline_training.descriptions import describe
from plumbline_training.foils import WORD_KINDS, foils
from plumbline_training.scenes import Scene
from plumbline_training.vocabulary import Vocabulary

THRESHOLD, SOFTNESS = -0.003, 0.0015
"""An attribution below the first is blame; the second is how sharply the two are told apart."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """Captions behind F-CLIPScore's template, some of them with wrong words."""

    rows: Tensor
    """`[T, L]` token rows."""
    owners: Tensor
    """`[T]`: the scene that each text was written for."""
    wrong: Tensor
    """`[T, L]` bool: tokens of words that are not so."""
    counted: Tensor
    """`[T, L]` bool: tokens of the caption's words, without template and punctuation."""


def write_blamed(scenes: list[Scene], vocabulary: Vocabulary, rng: Generator) -> Blamed:
    """A true caption and one foil for each scene, foils of single words first."""
    texts, owners, masks = list[str](), list[int](), list[tuple[list[bool], list[bool]]]()
    for owner, scene in enumerate(scenes):
        truth, manner = describe(scene, rng), sample_manner(rng)
        caption = word(truth, manner)
        found = sorted(foils(truth, scene, rng), key=lambda foil: foil.kind not in WORD_KINDS)
        foiled = [word(foil.description, manner) for foil in found[:1]]
        for one, changed in ((caption, ()), *((foil, changed_words(caption, foil)) for foil in foiled)):
            texts.append(TEMPLATE + one.text)
            masks.append(_masks(vocabulary, one, changed))
            owners.append(owner)
    rows = torch.from_numpy(vocabulary.batch(texts))
    wrong, counted = (torch.zeros(rows.shape, dtype=torch.bool) for _ in range(2))
    for place, (of_wrong, of_counted) in enumerate(masks):
        wrong[place, 1 : 1 + len(of_wrong)] = torch.tensor(of_wrong)
        counted[place, 1 : 1 + len(of_counted)] = torch.tensor(of_counted)
    return Blamed(rows, torch.tensor(owners), wrong, counted)


def _masks(vocabulary: Vocabulary, caption: Caption, changed: tuple[Span, ...]) -> tuple[list[bool], list[bool]]:
    """Which tokens between start and end belong to changed words, and which to any word behind the template."""
    own, wrong = (
        [(start + len(TEMPLATE), end + len(TEMPLATE)) for start, end in words] for words in (caption.words, changed)
    )
    spans = vocabulary.spans(TEMPLATE + caption.text)
    return [_lies_in(span, wrong) for span in spans], [_lies_in(span, own) for span in spans]


def _lies_in(span: Span, words: list[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in words)


def blame_parts(clip: CLIP, blamed: Blamed, images: Tensor) -> dict[str, Tensor]:
    """How far attributions are from blaming the wrong words alone.

    Args:
        clip: The CLIP, of which the text tower learns.
        blamed: Captions.
        images: `[N, D]` unit-norm embeddings of the scenes.

    Returns:
        `blame`: each word by itself against the threshold; `lowest`: the words of a foil against each other; and the
        share of foils in which a wrong word is the lowest.
    """
    _, values = attributions(clip, blamed.rows, images[blamed.owners], learns=True)
    logits = (THRESHOLD - values) / SOFTNESS
    truth = blamed.wrong.float()
    each = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    is_foil = blamed.wrong.any(dim=1)
    logits, wrong, counted = logits[is_foil], blamed.wrong[is_foil], blamed.counted[is_foil]
    among = logits.masked_fill(~counted, -torch.inf)
    against = torch.logsumexp(among, dim=1) - torch.logsumexp(among.masked_fill(~wrong, -torch.inf), dim=1)
    found = wrong.gather(1, among.argmax(dim=1, keepdim=True)).float().mean()
    return {"blame": each[blamed.counted].mean(), "lowest": against.mean(), "found": found.detach()}
