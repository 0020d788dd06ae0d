"""Image and text towers from two checkpoints, as un2CLIP is published: the image tower alone was trained further."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loadtests.goldens.preference.clips import build_pickscore
from plumbline_models.core.errors import ConfigError, StateDictError
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.clip.graph import clip_image_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.weights import load_clip
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.qualiclip import QualiClip

NAMINGS: dict[str, Callable[[str], str]] = {
    "open_clip": lambda name: f"visual.{name}",
    "alone": lambda name: name,
    "wrapped for training": lambda name: f"module.visual.{name}",
    "compiled": lambda name: f"_orig_mod.visual.{name}",
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_the_image_tower_is_the_other_checkpoints_and_the_text_tower_is_not(
    naming: str, tiny_folder: Path, tmp_path: Path
) -> None:
    base = load_clip(ClipSpec.of(ClipSection(checkpoint=tiny_folder)))
    trained = {name: tensor * 1.5 for name, tensor in base.image.items()}
    file = tmp_path / "image.safetensors"
    save_file({NAMINGS[naming](name): tensor for name, tensor in trained.items()}, file)
    spec = ClipSpec.of(ClipSection(checkpoint=tiny_folder, image_checkpoint=file))
    found = load_clip(spec)
    assert set(found.image) == set(base.image)
    assert all(torch.equal(found.image[name], trained[name]) for name in trained)
    assert all(torch.equal(found.text[name], base.text[name]) for name in base.text)
    clip_image_graph(spec).build()


def test_a_vision_model_of_the_transformers_library_will_do(tmp_path: Path) -> None:
    clip = build_pickscore(tmp_path)
    state = load_file(clip / "model.safetensors")
    (tmp_path / "vision").mkdir()
    image = {name: each for name, each in state.items() if name.startswith(("vision_model.", "visual_projection."))}
    save_file({name: each * 0.5 for name, each in image.items()}, tmp_path / "vision" / "model.safetensors")
    spec = ClipSpec.of(ClipSection(checkpoint=clip, image_checkpoint=tmp_path / "vision"))
    torch.testing.assert_close(load_clip(spec).image["proj"].T, state["visual_projection.weight"].float() * 0.5)
    assert spec.source.endswith(" + vision")


def test_a_tower_of_another_size_is_refused_by_name(tiny_folder: Path, tmp_path: Path) -> None:
    base = load_clip(ClipSpec.of(ClipSection(checkpoint=tiny_folder)))
    file = tmp_path / "image.safetensors"
    save_file({**base.image, "proj": torch.zeros(3, 5)}, file)
    with pytest.raises(StateDictError, match=r"does not fit the image tower .* proj"):
        clip_image_graph(ClipSpec.of(ClipSection(checkpoint=tiny_folder, image_checkpoint=file))).build()


def test_scorers_with_and_without_another_tower_share_no_encoder(tiny_folder: Path, tmp_path: Path, torch_fp32) -> None:
    base = load_clip(ClipSpec.of(ClipSection(checkpoint=tiny_folder)))
    save_file(dict(base.image), tmp_path / "image.safetensors")
    options = {"checkpoint": str(tiny_folder), "image_checkpoint": str(tmp_path / "image.safetensors")}
    context = BuildContext(torch_fp32, EncoderRegistry())
    changed, usual = ClipScore.build(options, context), ClipScore.build({"checkpoint": str(tiny_folder)}, context)
    assert changed.image is not usual.image
    with pytest.raises(ConfigError, match="qualiclip takes neither image_checkpoint"):
        QualiClip.build(options, context)
