"""PickScore's and HPSv2's tiny CLIPs, in the layouts that are published."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from loadtests.goldens.preference.drawing import Parameter, check_digest, draw, linear, norm, record


def open_clip_parameters(config: Mapping[str, Any], logit_scale: float) -> Iterator[Parameter]:
    """A CLIP under open_clip's names.

    Args:
        config: What open_clip calls `model_cfg`.
        logit_scale: As stored.
    """
    text, vision, dim = config["text_cfg"], config["vision_cfg"], config["embed_dim"]
    text_width, width, patch = text["width"], vision["width"], vision["patch_size"]
    yield "logit_scale", (), 0.0, logit_scale
    yield "text_projection", (text_width, dim), 1.4 * text_width**-0.5, 0.0
    yield "visual.proj", (width, dim), 1.4 * width**-0.5, 0.0
    yield "token_embedding.weight", (text["vocab_size"], text_width), 0.8, 0.0
    yield "positional_embedding", (text["context_length"], text_width), 0.3, 0.0
    yield "visual.class_embedding", (width,), 0.5, 0.0
    yield "visual.conv1.weight", (width, 3, patch, patch), 6.0 * (3 * patch**2) ** -0.5, 0.0
    yield "visual.positional_embedding", ((vision["image_size"] // patch) ** 2 + 1, width), 0.3, 0.0
    yield from norm("ln_final", text_width)
    yield from norm("visual.ln_pre", width)
    yield from norm("visual.ln_post", width)
    for prefix, each in (("transformer", text), ("visual.transformer", vision)):
        for index in range(each["layers"]):
            yield from _open_clip_block(f"{prefix}.resblocks.{index}.", each["width"])


def transformers_clip_parameters(arch: Mapping[str, Any]) -> Iterator[Parameter]:
    """A CLIP under the names of the transformers library."""
    text, vision, dim = arch["text"], arch["vision"], arch["projection_dim"]
    text_width, width, patch = text["hidden_size"], vision["hidden_size"], vision["patch_size"]
    yield "logit_scale", (), 0.0, arch["logit_scale"]
    yield "text_projection.weight", (dim, text_width), 1.4 * text_width**-0.5, 0.0
    yield "visual_projection.weight", (dim, width), 1.4 * width**-0.5, 0.0
    yield "text_model.embeddings.token_embedding.weight", (49408, text_width), 0.8, 0.0
    yield "text_model.embeddings.position_embedding.weight", (77, text_width), 0.3, 0.0
    yield "vision_model.embeddings.class_embedding", (width,), 0.5, 0.0
    yield "vision_model.embeddings.patch_embedding.weight", (width, 3, patch, patch), 6.0 * (3 * patch**2) ** -0.5, 0.0
    num_positions = (vision["image_size"] // patch) ** 2 + 1
    yield "vision_model.embeddings.position_embedding.weight", (num_positions, width), 0.3, 0.0
    yield from norm("text_model.final_layer_norm", text_width)
    yield from norm("vision_model.pre_layrnorm", width)
    yield from norm("vision_model.post_layernorm", width)
    gains = {"self_attn.q_proj": 1.6, "self_attn.k_proj": 1.6, "self_attn.v_proj": 1.2, "self_attn.out_proj": 1.2}
    for tower, each in (("text_model", text), ("vision_model", vision)):
        yield from transformers_blocks(f"{tower}.encoder.layers.", each, gains)


def transformers_blocks(prefix: str, tower: Mapping[str, Any], gains: Mapping[str, float]) -> Iterator[Parameter]:
    """A tower's blocks under the names of the transformers library.

    Args:
        prefix: Before the number of each block.
        tower: Sizes.
        gains: Of the attention's layers.
    """
    width, wide = tower["hidden_size"], tower["intermediate_size"]
    for index in range(tower["num_hidden_layers"]):
        block = f"{prefix}{index}."
        yield from norm(f"{block}layer_norm1", width)
        yield from norm(f"{block}layer_norm2", width)
        for name, gain in gains.items():
            yield from linear(block + name, width, width, gain)
        yield from linear(f"{block}mlp.fc1", wide, width, 1.4)
        yield from linear(f"{block}mlp.fc2", width, wide, 1.0)


def build_pickscore(folder: Path) -> Path:
    """A folder of the published repository's layout."""
    spec = record("pickscore")["weights"]
    arch = spec["arch"]
    tensors = draw(transformers_clip_parameters(arch), spec["seed"])
    check_digest(tensors, spec["weights_sha256"])
    num_positions = (arch["vision"]["image_size"] // arch["vision"]["patch_size"]) ** 2 + 1
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]  # in the published file, and read by nobody
    tensors["vision_model.embeddings.position_ids"] = np.arange(num_positions)[None]
    save_file(tensors, folder / "model.safetensors")
    usual = {"hidden_act": arch["hidden_act"], "layer_norm_eps": 1e-5, "projection_dim": 512}
    config = {
        "model_type": "clip",
        "projection_dim": arch["projection_dim"],
        "text_config": {**usual, **arch["text"], "vocab_size": 49408, "max_position_embeddings": 77},
        "vision_config": {**usual, **arch["vision"], "num_channels": 3},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    size = arch["vision"]["image_size"]
    processor = {
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "size": {"shortest_edge": size},
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def build_hpsv2(folder: Path) -> Path:
    """A folder with the file of version 2.1 as it is published, and beside it the sizes of the tiny network."""
    spec = record("hpsv2")["weights"]
    tensors = draw(open_clip_parameters(spec["arch"], spec["logit_scale"]), spec["seed"], dtype=np.float16)
    check_digest(tensors, spec["weights_sha256"])
    state = {name: torch.from_numpy(each) for name, each in tensors.items()}
    torch.save({"state_dict": state}, folder / "HPS_v2.1_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": spec["arch"]}), encoding="utf-8")
    return folder


def _open_clip_block(block: str, width: int) -> Iterator[Parameter]:
    yield from norm(f"{block}ln_1", width)
    yield from norm(f"{block}ln_2", width)
    yield f"{block}attn.in_proj_weight", (3 * width, width), 1.5 * width**-0.5, 0.0
    yield f"{block}attn.in_proj_bias", (3 * width,), 0.1, 0.0
    yield from linear(f"{block}attn.out_proj", width, width, 1.2)
    yield from linear(f"{block}mlp.c_fc", 4 * width, width, 1.4)
    yield from linear(f"{block}mlp.c_proj", width, 4 * width, 1.0)
