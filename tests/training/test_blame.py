"""Captions with wrong words, and the loss that has them blamed."""

import numpy as np
import pytest
import torch

from plumbline_models.networks.attribution.encoder import TEMPLATE
from plumbline_training.attributions import attributions
from plumbline_training.blame import Blamed, blame_parts, write_blamed
from plumbline_training.sampling import sample_scene
from plumbline_training.towers import build_clip
from plumbline_training.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary()


@pytest.fixture
def blamed(vocabulary: Vocabulary) -> Blamed:
    rng = np.random.default_rng(3)
    return write_blamed([sample_scene(rng) for _ in range(12)], vocabulary, rng)


def test_spans_are_where_the_tokens_stand(vocabulary: Vocabulary) -> None:
    text = "A RED circle, on brown."
    assert [text[start:end] for start, end in vocabulary.spans(text)] == ["A", "RED", "circle", ",", "on", "brown", "."]


def test_wrong_words_are_those_of_foils(blamed: Blamed) -> None:
    is_foil = blamed.wrong.any(dim=1)
    assert blamed.owners.tolist() == sorted(blamed.owners.tolist())
    assert int((~is_foil).sum()) == 12
    assert int(is_foil.sum()) == 12
    assert not (blamed.wrong & ~blamed.counted).any()
    assert (blamed.counted.sum(dim=1) > blamed.wrong.sum(dim=1)).all()


def test_start_template_and_end_are_not_counted(blamed: Blamed) -> None:
    template = len(TEMPLATE.split())
    assert not blamed.counted[:, : 1 + template].any()
    assert not blamed.counted[torch.arange(len(blamed.rows)), blamed.rows.argmax(dim=1)].any()


def test_values_to_learn_from_are_the_values_measured(vocabulary: Vocabulary, blamed: Blamed) -> None:
    torch.manual_seed(0)
    clip = build_clip(vocabulary.num_rows)
    images = torch.nn.functional.normalize(torch.randn(len(blamed.rows), 128), dim=1)
    cosines, values = attributions(clip, blamed.rows, images)
    learnt_cosines, learnt = attributions(clip, blamed.rows, images, learns=True)
    assert learnt.requires_grad
    torch.testing.assert_close((learnt_cosines.detach(), learnt.detach()), (cosines, values), rtol=0, atol=1e-7)


def test_steps_on_the_loss_have_wrong_words_found(vocabulary: Vocabulary, blamed: Blamed) -> None:
    torch.manual_seed(0)
    clip = build_clip(vocabulary.num_rows)
    images = torch.nn.functional.normalize(torch.randn(12, 128), dim=1)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=3e-3)
    shares = []
    for _ in range(40):
        parts = blame_parts(clip, blamed, images)
        shares.append(float(parts["found"]))
        optimizer.zero_grad()
        torch.autograd.backward(parts["blame"] + parts["lowest"])
        optimizer.step()
    assert shares[0] < 0.7
    assert shares[-1] > 0.9
