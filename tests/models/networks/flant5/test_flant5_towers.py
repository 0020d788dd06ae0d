"""Image towers in open_clip's layout, and images that are squashed because the checkpoint's processor does so."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.errors import CheckpointError
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.image_encoder import FlanT5ImageEncoder
from plumbline_models.networks.flant5.weights import build_image_graph

INSIDE = "vision_tower.vision_tower.vision_model."
EMBEDDINGS = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "pre_layrnorm": "ln_pre",
}
BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def in_open_clip(tower):
    """The same tensors by open_clip's names."""
    renamed = {}
    for name, tensor in tower.items():
        if name.startswith("encoder.layers."):
            _, _, index, rest = name.split(".", 3)
            part, kind = rest.rsplit(".", 1)
            if part in BLOCK:
                renamed[f"visual.transformer.resblocks.{index}.{BLOCK[part]}.{kind}"] = tensor
        else:
            stem = next((known for known in EMBEDDINGS if name.startswith(known)), None)
            if stem is not None:
                renamed[f"visual.{EMBEDDINGS[stem]}{name.removeprefix(stem)}"] = tensor
    for index in range(3):
        for kind in ("weight", "bias"):
            parts = [tower[f"encoder.layers.{index}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"visual.transformer.resblocks.{index}.attn.in_proj_{kind}"] = torch.cat(parts)
    return renamed


@pytest.fixture
def beside(copied, edit_config):
    """The copied checkpoint with its tower moved to a folder of open_clip's layout beside it."""
    state = load_file(copied / "model.safetensors")
    tower = {name.removeprefix(INSIDE): state.pop(name) for name in list(state) if name.startswith(INSIDE)}
    save_file(state, copied / "model.safetensors")
    (copied / "vision_config.json").unlink()
    home = copied.parent / "some-clip"
    home.mkdir()
    save_file(in_open_clip(tower), home / "weights.safetensors")
    vision = {"width": 24, "layers": 3, "head_width": 12, "mlp_ratio": 2.0, "image_size": 56, "patch_size": 14}
    config = {"model_cfg": {"quick_gelu": True, "vision_cfg": vision}}
    (home / "config.json").write_text(json.dumps(config), encoding="utf-8")
    edit_config(mm_vision_tower="../some-clip")
    return copied


def test_a_tower_in_open_clips_layout_is_the_same_tower(beside, checkpoint):
    found = FlanT5Checkpoint(str(beside))
    assert found.tower_arch == checkpoint.tower_arch
    ours, theirs = build_image_graph(found).state_dict(), build_image_graph(checkpoint).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_towers_weights_are_part_of_the_digest(beside):
    before = FlanT5Checkpoint(str(beside)).sha256
    file = beside.parent / "some-clip" / "weights.safetensors"
    tensors = load_file(file)
    tensors["visual.class_embedding"] = tensors["visual.class_embedding"] + 1
    save_file(tensors, file)
    assert FlanT5Checkpoint(str(beside)).sha256 != before


def test_open_clips_sizes_must_be_those_of_a_vision_transformer(beside):
    resnet = {"model_cfg": {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 56}}}
    (beside.parent / "some-clip" / "config.json").write_text(json.dumps(resnet), encoding="utf-8")
    with pytest.raises(CheckpointError):
        _ = FlanT5Checkpoint(str(beside)).tower_arch


@pytest.mark.parametrize("is_cropped", [False, True])
def test_images_are_squashed_where_the_checkpoints_processor_squashes(is_cropped, copied, edit_config, tmp_path):
    edit_config(image_aspect_ratio="square")
    file = copied / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.update(size={"height": 56, "width": 56}, do_center_crop=is_cropped)
    file.write_text(json.dumps(settings), encoding="utf-8")
    wide = np.zeros((56, 112, 3), dtype=np.uint8)
    wide[:, 104:] = 255  # a centre crop would lose this edge
    backend = open_backend("torch", precision="fp32", tuning=Tuning(cache_dir=tmp_path, num_threads=1))
    checkpoint = FlanT5Checkpoint(str(copied))
    assert checkpoint.aspect == "squash"
    resized = FlanT5ImageEncoder(checkpoint, backend).preprocess(wide)
    assert resized.shape == (56, 56, 3)
    assert resized[:, -1].min() > resized[:, 0].max()
