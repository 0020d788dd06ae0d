import json

import pytest

from plumbline_models.core.errors import UnknownArchError
from plumbline_models.networks.clip.tags import TABLE, find_tag, read_open_clip
from plumbline_models.weights.sources import HubFile, parse_hub_file


def test_the_stored_table_is_that_of_the_installed_open_clip() -> None:
    stored = json.loads(TABLE.read_text(encoding="utf-8"))
    assert stored == read_open_clip(), "run: python -m plumbline_models.networks.clip.tags"
    assert sum(map(len, stored.values())) > 150


def test_openais_weights_want_quick_gelu() -> None:
    tag = find_tag("ViT-B-32-quickgelu", "openai")
    assert tag.has_quick_gelu
    assert tag.preprocess == {}


def test_a_tag_says_how_its_images_are_preprocessed() -> None:
    tag = find_tag("ViT-B-16-SigLIP", "webli")
    assert tag.preprocess["mean"] == [0.5, 0.5, 0.5]
    assert tag.preprocess["resize_mode"] == "squash"


def test_capitals_and_hyphens_of_a_tag_do_not_matter() -> None:
    assert find_tag("ViT-B-32", "LAION2B-s34b-b79k") == find_tag("ViT-B-32", "laion2b_s34b_b79k")


def test_an_unknown_tag_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownArchError, match=r"no pretrained tag laion3b for ViT-B-32: it has .*openai"):
        find_tag("ViT-B-32", "laion3b")


def test_an_architecture_without_weights_says_so() -> None:
    with pytest.raises(UnknownArchError, match="it has none"):
        find_tag("ViT-M-16", "openai")


@pytest.mark.parametrize(
    ("hub", "first"),
    [
        ("timm/vit_base_patch32_clip_224.openai/", "open_clip_model.safetensors"),
        ("laion/CLIP-x/weights.bin", "weights.safetensors"),
    ],
)
def test_safetensors_are_looked_for_first(hub: str, first: str) -> None:
    file = parse_hub_file(hub)
    assert isinstance(file, HubFile)
    assert file.repository == hub.rsplit("/", 1)[0]
    assert file.names[0] == first
