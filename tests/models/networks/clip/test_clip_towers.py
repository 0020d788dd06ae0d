"""CLIP's own towers, written out, against open_clip's."""

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from loadtests.goldens.clips import TINY
from plumbline_models.networks.clip.arch import ImageArch, TextArch
from plumbline_models.networks.clip.archs import Arch
from plumbline_models.networks.clip.image_tower import ImageTower
from plumbline_models.networks.clip.state_dicts import fill, sort_tensors
from plumbline_models.networks.clip.text_tower import TextTower, end_of_text

SAME = 1e-5  # entries are of size 1; the last block computes one token only, so sums run in another order
BASE = TINY["model_cfg"]
WIDE = {
    **BASE,
    "quick_gelu": False,
    "vision_cfg": {
        "image_size": [48, 32],
        "layers": 3,
        "width": 64,
        "head_width": 16,
        "patch_size": 16,
        "mlp_ratio": 3,
    },
    "text_cfg": {
        "context_length": 20,
        "vocab_size": 300,
        "width": 48,
        "heads": 3,
        "layers": 1,
        "mlp_ratio": 2.5,
        "norm_kwargs": {"eps": 1e-3},
    },
}


@pytest.fixture(params=[BASE, WIDE], ids=["quick gelu", "gelu, other sizes"])
def published(request: pytest.FixtureRequest) -> tuple[Arch, open_clip.CLIP]:
    config: dict[str, Any] = request.param
    torch.manual_seed(0)
    clip = open_clip.CLIP(
        config["embed_dim"],
        open_clip.CLIPVisionCfg(**config["vision_cfg"]),
        open_clip.CLIPTextCfg(**config["text_cfg"]),
        quick_gelu=config["quick_gelu"],
    ).eval()
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # norms and biases start at 1 and 0
    return Arch("tiny", config), clip


def filled(tower: nn.Module, clip: open_clip.CLIP, name: str) -> nn.Module:
    fill(tower, getattr(sort_tensors(clip.state_dict()), name), name=name)
    return tower


def draw_ids(arch: Arch, lengths: list[int], total: int) -> Tensor:
    """Random texts that end in the vocabulary's last id, padded with 0."""
    vocabulary = arch.text["vocab_size"]
    ids = torch.zeros(len(lengths), total, dtype=torch.int64)
    for text, length in zip(ids, lengths, strict=True):
        text[: length - 1] = torch.randint(1, vocabulary - 1, (length - 1,))
        text[length - 1] = vocabulary - 1
    return ids


def test_the_text_tower_is_open_clips_for_every_length(published: tuple[Arch, open_clip.CLIP]) -> None:
    arch, clip = published
    tower = filled(TextTower(TextArch.of(arch)), clip, "text")
    lengths = [2, 3, 9, 17, 20]
    ids = draw_ids(arch, lengths, arch.context_length)
    with torch.inference_mode():
        expected = clip.encode_text(ids)
        for cut in range(max(lengths), arch.context_length + 1):
            assert torch.allclose(tower(ids[:, :cut]), expected, atol=SAME, rtol=0)


def test_the_image_tower_is_open_clips(published: tuple[Arch, open_clip.CLIP]) -> None:
    arch, clip = published
    tower = filled(ImageTower(ImageArch.of(arch)), clip, "image")
    pixels = torch.randn(3, 3, *arch.image_size_px)
    with torch.inference_mode():
        assert torch.allclose(tower(pixels), clip.encode_image(pixels), atol=SAME, rtol=0)


@pytest.mark.parametrize(
    ("ids", "end"),
    [
        ([[7, 3, 9, 0]], [2]),
        ([[7, 9, 3, 9]], [1]),
        ([[9, 9, 9, 9]], [0]),
        ([[49406, 320, 49407, 49406], [49406, 49407, 320, 49407]], [2, 1]),
    ],
)
def test_a_text_ends_at_its_first_largest_id(ids: list[list[int]], end: list[int]) -> None:
    marks = end_of_text(torch.tensor(ids), torch.zeros(1))
    assert marks.sum(dim=1).tolist() == [1.0] * len(ids)
    assert marks.argmax(dim=1).tolist() == end


def test_what_stands_behind_the_end_changes_nothing_at_all(published: tuple[Arch, open_clip.CLIP]) -> None:
    arch, clip = published
    tower = filled(TextTower(TextArch.of(arch)), clip, "text")
    ids = draw_ids(arch, [5, 9], 12)
    other = ids.clone()
    other[:, 9:] = 2
    with torch.inference_mode():
        assert torch.equal(tower(ids), tower(other))
