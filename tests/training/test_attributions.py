"""The autograd reference of word attributions, against a second reading of the same definition."""

from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP

from plumbline_training.attributions import attributions, word_values
from plumbline_training.towers import build_clip, encode_texts
from plumbline_training.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary()


@pytest.fixture(scope="module")
def clip(vocabulary: Vocabulary) -> CLIP:
    torch.manual_seed(3)
    return build_clip(vocabulary.num_rows).double().eval()


def test_the_cosine_is_the_one_of_the_towers(clip: CLIP, vocabulary: Vocabulary) -> None:
    rows = torch.from_numpy(vocabulary.batch(["a red circle", "two small stars above a ring."]))
    images = torch.nn.functional.normalize(torch.randn(2, 128, dtype=torch.float64), dim=-1)
    cosines, _ = attributions(clip, rows, images)
    with torch.no_grad():
        expected = (encode_texts(clip, rows) * images).sum(dim=-1)
    assert torch.allclose(cosines, expected, atol=1e-12)  # the same arithmetic in float64


def test_attributions_sum_to_the_derivative_by_a_common_scale_of_all_attention(
    clip: CLIP, vocabulary: Vocabulary
) -> None:
    rows = torch.from_numpy(vocabulary.batch(["a striped blue heart on a red background"]))
    image = torch.nn.functional.normalize(torch.randn(1, 128, dtype=torch.float64), dim=-1)
    _, values = attributions(clip, rows, image)
    end, step = int(rows.argmax()), 1e-5
    found = [_cosine_with_scaled_end_row(clip, rows, image, 1 + sign * step) for sign in (1, -1)]
    num_heads = clip.transformer.resblocks[0].attn.num_heads
    derivative = (found[0] - found[1]) / (2 * step) / (num_heads * len(clip.transformer.resblocks))
    assert float(values[0, : end + 1].sum()) == pytest.approx(derivative, rel=1e-6)


def _cosine_with_scaled_end_row(clip: CLIP, rows: torch.Tensor, image: torch.Tensor, scale: float) -> float:
    """Scale the end-of-text row of every attention map by scaling what its heads mix."""
    end = int(rows.argmax())

    def scaled(module: Any, _inputs: object, output: tuple[torch.Tensor, object]) -> object:
        mixed, weights = output
        bias = module.out_proj.bias
        row = (mixed[:, end] - bias) * scale + bias
        return torch.cat([mixed[:, :end], row[:, None], mixed[:, end + 1 :]], dim=1), weights

    hooks = [block.attn.register_forward_hook(scaled) for block in clip.transformer.resblocks]
    try:
        with torch.no_grad():
            return float((encode_texts(clip, rows) * image).sum())
    finally:
        for hook in hooks:
            hook.remove()


def test_a_word_has_the_mean_of_its_tokens() -> None:
    text = "A red-ish ring"
    values = word_values(["a", "red", "-", "ish", "ring"], [1.0, 2.0, 3.0, 7.0, -1.0], text, [(0, 1), (2, 9), (10, 14)])
    assert values == [1.0, 4.0, -1.0]


def test_only_the_tokens_of_scenes_have_rows_of_their_own(vocabulary: Vocabulary) -> None:
    rows = vocabulary.batch(["a red giraffe", "a red hippopotamus", "a red circle"])
    ends = rows.argmax(axis=1)
    assert rows[0, 3] == 0
    assert rows[2, 3] > 0
    assert ends[0] == 4
    assert (np.sort(vocabulary.known_ids) == np.array(vocabulary.known_ids)).all()
