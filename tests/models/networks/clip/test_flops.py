import pytest

from plumbline_models.networks.clip.archs import find_arch
from plumbline_models.networks.clip.flops import image_gflop, text_gflop


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [  # counted by hand for texts of 17 tokens, multiply-add as two
        ("ViT-B-32", 8.82, 1.21),
        ("ViT-B-16", 35.1, 1.21),
        ("ViT-L-14", 162.0, 2.71),
        ("ViT-H-14", 335.0, 9.96),
    ],
)
def test_transformers_are_counted_to_within_a_few_percent(name: str, image: float, text: float) -> None:
    arch = find_arch(name)
    assert image_gflop(arch) == pytest.approx(image, rel=0.04)
    assert text_gflop(arch, 17) == pytest.approx(text, rel=0.08)


def test_larger_residual_networks_are_dearer() -> None:
    costs = [image_gflop(find_arch(name)) for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(12.0)


def test_a_tower_that_takes_the_whole_context_is_counted_so() -> None:
    arch = find_arch("ViT-B-16-SigLIP")
    assert text_gflop(arch, 5) == text_gflop(arch, 60) > 0
