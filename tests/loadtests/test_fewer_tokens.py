"""Towers with fewer tokens: what is taken away is averaged in, and a tower that takes nothing is the full one."""

from dataclasses import replace

import pytest
import torch

from loadtests.engine.fewer_tokens import LeanImageTower, Reduction, condense, merge
from loadtests.engine.leaner_towers import ways
from plumbline_models.networks.clip.arch import ImageArch
from plumbline_models.networks.clip.image_tower import ImageTower
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec

NUM, WIDTH = 9, 4  # a class token and 8 patches


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(2, NUM, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("way", ["merge", "condense"])
@pytest.mark.parametrize("num", [1, 3])
def test_tokens_that_are_taken_away_are_averaged_in(tokens: torch.Tensor, way: str, num: int) -> None:
    counts, heed = torch.ones(2, NUM, 1), torch.rand(2, NUM, generator=torch.Generator().manual_seed(1))
    taken = (tokens, counts, tokens, num) if way == "merge" else (tokens, counts, tokens, heed, num)
    fewer, held = merge(*taken) if way == "merge" else condense(*taken)
    assert fewer.shape == (2, NUM - num, WIDTH)
    assert torch.equal(fewer[:, 0], tokens[:, 0])  # the class token
    assert held.sum(dim=1).tolist() == [[NUM], [NUM]]
    assert torch.allclose((fewer * held).sum(dim=1), tokens.sum(dim=1), atol=1e-5)


def test_the_patches_that_are_heeded_least_join_those_most_like_them() -> None:
    east, north, near_east = [2.0, 0.0], [0.0, 2.0], [1.0, 0.1]
    tokens = torch.tensor([[[9.0, 9.0], east, near_east, north]])
    fewer, held = condense(tokens, torch.ones(1, 4, 1), tokens, torch.tensor([[0.0, 0.5, 0.1, 0.4]]), 1)
    assert fewer[0].tolist() == [[9.0, 9.0], pytest.approx([1.5, 0.05]), north]
    assert held[0, :, 0].tolist() == [1.0, 2.0, 1.0]


def test_a_tower_with_the_same_weights_differs_only_where_tokens_are_taken() -> None:
    arch = replace(ImageArch.of(ClipSpec.of(ClipSection()).arch), num_blocks=6, num_patches=16)
    full = ImageTower(arch).eval()
    for parameter in full.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    pixels = torch.randn(1, 3, 4 * arch.patch_px, 4 * arch.patch_px)
    found = []
    with torch.no_grad():
        for reduction in (Reduction("condense", 0, ()), *ways(arch).values()):
            tower = LeanImageTower(arch, reduction).eval()
            tower.load_state_dict(full.state_dict())
            found.append(tower(pixels))
        assert torch.allclose(found[0], full(pixels), atol=1e-5)
        assert all(each.shape == found[0].shape and not torch.equal(each, found[0]) for each in found[1:])
