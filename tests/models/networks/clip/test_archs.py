import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import CheckpointError, UnknownArchError
from plumbline_models.networks.clip.arch import ImageArch, TextArch
from plumbline_models.networks.clip.archs import Arch, arch_names, find_arch, read_arch


@pytest.mark.parametrize(
    ("name", "embed_dim", "image_px", "has_quick_gelu"),
    [
        ("ViT-B-32-quickgelu", 512, 224, True),
        ("ViT-B-32", 512, 224, False),
        ("ViT-L-14-336-quickgelu", 768, 336, True),
        ("RN50-quickgelu", 1024, 224, True),
        ("ViT-L/14", 768, 224, False),
    ],
)
def test_an_architecture_has_the_sizes_that_open_clip_gives_it(
    name: str, embed_dim: int, *, image_px: int, has_quick_gelu: bool
) -> None:
    arch = find_arch(name)
    assert arch.embed_dim == embed_dim
    assert arch.image_size_px == (image_px, image_px)
    assert arch.has_quick_gelu is has_quick_gelu
    assert arch.context_length == 77


def test_every_architecture_of_open_clip_is_read() -> None:
    archs = [find_arch(name) for name in arch_names()]
    assert len(archs) > 100
    for arch in archs:
        assert arch.embed_dim > 0
        assert min(arch.image_size_px) >= 112
        assert arch.context_length > 0
        assert json.loads(arch.canonical)["config"]["embed_dim"] == arch.embed_dim


@pytest.mark.parametrize(
    ("name", "is_own_image", "is_own_text"),
    [
        ("ViT-B-32", True, True),
        ("ViT-H-14", True, True),
        ("RN50", False, True),
        ("convnext_base_w", False, True),
        ("coca_ViT-B-32", False, False),
        ("ViT-B-16-SigLIP", False, False),
        ("roberta-ViT-B-32", True, False),
        ("ViT-L-14-CLIPA", False, False),
    ],
)
def test_towers_that_are_not_clips_own_are_told_apart(name: str, *, is_own_image: bool, is_own_text: bool) -> None:
    arch = find_arch(name)
    assert (arch.has_clip_image, arch.has_clip_text) == (is_own_image, is_own_text)


def test_an_unknown_name_is_answered_with_close_ones() -> None:
    with pytest.raises(UnknownArchError) as raised:
        find_arch("ViT-B-32-quickglue")
    assert raised.value.detail.startswith("open_clip has no architecture ViT-B-32-quickglue. Did you mean")
    assert "ViT-B-32-quickgelu" in raised.value.detail


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vit_b_32", "ViT-B-32"),
        ("vit-b/32", "ViT-B-32"),
        ("ViT-L-14-336-QuickGELU", "ViT-L-14-336-quickgelu"),
        ("openai/clip-vit-base-patch32", "hf-hub:openai/clip-vit-base-patch32"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    ],
)
def test_a_name_of_another_program_is_answered_with_ours(name: str, meant: str) -> None:
    with pytest.raises(UnknownArchError) as raised:
        find_arch(name)
    assert raised.value.detail == f"open_clip has no architecture {name}. Did you mean {meant}?"


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(UnknownArchError, match=r"^open_clip has no architecture 0123456789\.$"):
        find_arch("0123456789")


def test_a_file_says_how_its_images_are_preprocessed(tiny_folder: Path) -> None:
    arch = read_arch(tiny_folder / "open_clip_config.json")
    assert arch.preprocess_config == {
        "size": (32, 32),
        "mean": [0.5, 0.4, 0.3],
        "std": [0.3, 0.25, 0.2],
        "resize_mode": "squash",
        "interpolation": "bicubic",
        "fill_color": 0,
    }


TOWER = {"hidden_size": 57, "intermediate_size": 119, "num_attention_heads": 3}


def of_transformers(folder: Path, processor: Mapping[str, Any], model_type: str = "clip") -> Arch:
    config = {"model_type": model_type, "text_config": TOWER, "vision_config": {**TOWER, "image_size": 32}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return read_arch(folder / "config.json")


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_any_width_inside_of_a_block_is_read_as_it_is_written(model_type: str, tmp_path: Path) -> None:
    arch = of_transformers(tmp_path, {}, model_type)  # int(57 * (119 / 57)) is 118
    assert (ImageArch.of(arch).block.ffn_width, TextArch.of(arch).block.ffn_width) == (119, 119)


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        ({"shortest_edge": 32}, "shortest"),
        (32, "shortest"),
        ({"height": 32, "width": 32}, "squash"),  # and then a crop of nothing
    ],
)
def test_a_processor_that_resizes_to_a_height_and_a_width_squashes(size: Any, mode: str, tmp_path: Path) -> None:
    arch = of_transformers(tmp_path, {"size": size, "crop_size": {"height": 32, "width": 32}})
    assert arch.preprocess_config["resize_mode"] == mode


def test_a_siglip_whose_processor_says_no_size_squashes(tmp_path: Path) -> None:
    assert of_transformers(tmp_path, {"resample": 2}, "siglip").preprocess_config["resize_mode"] == "squash"


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ({"size": {"shortest_edge": 40}, "crop_size": 32}, "resizes to 40 px and crops 32"),
        ({"do_normalize": False}, "another do_normalize"),
        ({"do_resize": False}, "another do_resize"),
        ({"rescale_factor": 1.0}, "another rescale_factor"),
    ],
)
def test_a_processor_of_other_steps_is_refused_by_name(processor: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=reason):
        of_transformers(tmp_path, processor)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="no object"),
        pytest.param("{}", id="no model_cfg"),
        pytest.param('{"model_cfg": {"embed_dim": 8, "vision_cfg": {}}}', id="no text_cfg"),
        pytest.param('{"model_cfg": {"embed_dim": "8", "vision_cfg": {}, "text_cfg": {}}}', id="text for a number"),
        pytest.param(
            '{"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}, "preprocess_cfg": 3}',
            id="odd prep",
        ),
        pytest.param(
            '{"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}, "plumbline": {"fclipscore_epsilon": 1}}',
            id="epsilon above 0",
        ),
    ],
)
def test_a_file_that_describes_no_clip_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_arch(file)


def test_a_file_may_say_from_where_on_a_word_is_misaligned(tiny_folder: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_folder / "open_clip_config.json").read_text(encoding="utf-8"))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**config, "plumbline": {"fclipscore_epsilon": -0.002}}), encoding="utf-8")
    silent, speaking = read_arch(tiny_folder / "open_clip_config.json"), read_arch(file)
    assert (silent.epsilon, speaking.epsilon) == (None, -0.002)
    assert silent.canonical == speaking.canonical


def test_the_same_architecture_is_the_same_text_whatever_its_order() -> None:
    one = Arch("a", {"embed_dim": 1, "vision_cfg": {"width": 2, "layers": 3}, "text_cfg": {}})
    other = Arch("b", {"text_cfg": {}, "vision_cfg": {"layers": 3, "width": 2}, "embed_dim": 1})
    assert one.canonical == other.canonical


def test_architectures_are_read_without_torch() -> None:
    program = (
        "import sys; from plumbline_models.networks.clip.spec import ClipSpec; "
        "from plumbline_models.networks.clip.archs import find_arch; "
        "from plumbline_models.networks.clip.tags import find_tag; "
        "find_tag(find_arch('ViT-B-32-quickgelu').name, 'openai'); "
        "assert not {'torch', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
