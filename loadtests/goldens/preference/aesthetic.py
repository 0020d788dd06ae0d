"""The tiny towers and heads of the aesthetic predictors, in the layouts that are published."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import save_file

from loadtests.goldens.preference.clips import open_clip_parameters, transformers_blocks
from loadtests.goldens.preference.drawing import Parameter, Tensors, check_digest, draw, linear, norm, record

_LAYERS: Final = {"linear": (0, 2, 4, 6, 7), "relu": (0, 3, 6, 9, 11), "v2_5": (0, 2, 4, 6, 8)}
_GAINS: Final = {"linear": 1.2, "relu": 2.0, "v2_5": 1.2}
_LOGIT_SCALE: Final = 4.6052


def build_aesthetic(folder: Path) -> Path:
    """Folders `clip` and `siglip`, and the heads `linear.pth`, `relu.pth` and `v2_5.pth`."""
    spec = record("aesthetic")["weights"]
    seed, digests = spec["seed"], spec["weights_sha256"]
    _write_clip(folder / "clip", spec["clip"], seed=seed, digest=digests["tower"])
    _write_siglip(folder / "siglip", spec["siglip"], seed=seed, digest=digests["siglip"])
    widths = {"linear": spec["clip"]["embed_dim"], "relu": spec["clip"]["embed_dim"]}
    widths["v2_5"] = spec["siglip"]["vision"]["hidden_size"]
    for name, width in widths.items():
        tensors = draw(head_parameters(name, width), seed, salt=f"{name}/")
        state = {key: torch.from_numpy(each) for key, each in tensors.items()}
        if name == "v2_5":
            state = {key: each.to(torch.bfloat16) for key, each in state.items()}
            tensors = {key: each.to(torch.float32).numpy() for key, each in state.items()}
        check_digest(tensors, digests[name])
        torch.save(state, folder / f"{name}.pth")
    return folder


def head_parameters(name: str, width: int) -> Iterator[Parameter]:
    """A head's layers.

    Args:
        name: Of the head.
        width: Of the encodings that it reads.
    """
    prefix, sizes = "scoring_head." if name == "v2_5" else "layers.", (width, 1024, 128, 64, 16, 1)
    for place, index in enumerate(_LAYERS[name]):
        gain = _GAINS[name] * (width**0.5 if place == 0 else 1.0)
        offset = 5.0 if place == len(_LAYERS[name]) - 1 else 0.0
        yield from linear(f"{prefix}{index}", sizes[place + 1], sizes[place], gain, offset=offset)


def siglip_parameters(config: Mapping[str, Any]) -> Iterator[Parameter]:
    """A SigLIP under the names of the transformers library."""
    vision, text = config["vision"], config["text"]
    width, wide, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    embeddings, head = "vision_model.embeddings.", "vision_model.head."
    yield "logit_scale", (1,), 0.0, 4.7
    yield "logit_bias", (1,), 0.0, -16.0
    yield f"{embeddings}patch_embedding.weight", (width, 3, patch, patch), 3.0 * (3 * patch**2) ** -0.5, 0.0
    yield f"{embeddings}patch_embedding.bias", (width,), 0.1, 0.0
    yield f"{embeddings}position_embedding.weight", ((vision["image_size"] // patch) ** 2, width), 0.4, 0.0
    yield from norm("vision_model.post_layernorm", width)
    yield f"{head}probe", (1, 1, width), 1.0, 0.0
    yield f"{head}attention.in_proj_weight", (3 * width, width), 2.0 * width**-0.5, 0.0
    yield f"{head}attention.in_proj_bias", (3 * width,), 0.1, 0.0
    yield from linear(f"{head}attention.out_proj", width, width, 1.2)
    yield from norm(f"{head}layernorm", width)
    yield from linear(f"{head}mlp.fc1", wide, width, 1.4)
    yield from linear(f"{head}mlp.fc2", width, wide, 1.0)
    yield "text_model.embeddings.token_embedding.weight", (text["vocab_size"], width), 0.5, 0.0
    yield "text_model.embeddings.position_embedding.weight", (text["max_position_embeddings"], width), 0.2, 0.0
    yield from norm("text_model.final_layer_norm", width)
    yield from linear("text_model.head", width, width, 1.0)
    gains = {"self_attn.q_proj": 1.6, "self_attn.k_proj": 1.6, "self_attn.v_proj": 1.2, "self_attn.out_proj": 1.2}
    for name, tower in (("text_model", {**text, "hidden_size": width}), ("vision_model", vision)):
        yield from transformers_blocks(f"{name}.encoder.layers.", tower, gains)


def _write_clip(folder: Path, config: Mapping[str, Any], *, seed: int, digest: str) -> None:
    folder.mkdir()
    drawn = draw(open_clip_parameters(config, _LOGIT_SCALE), seed)
    tensors: Tensors = {name: each.astype(np.float16) for name, each in drawn.items()}
    check_digest(tensors, digest)
    save_file(tensors, folder / "open_clip_model.safetensors")
    stated = {"model_cfg": {**config, "quick_gelu": True}}
    (folder / "open_clip_config.json").write_text(json.dumps(stated), encoding="utf-8")


def _write_siglip(folder: Path, config: Mapping[str, Any], *, seed: int, digest: str) -> None:
    folder.mkdir()
    tensors = draw(siglip_parameters(config), seed, salt="siglip/")
    check_digest(tensors, digest)
    save_file(tensors, folder / "model.safetensors")
    usual = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    width, size = config["vision"]["hidden_size"], config["vision"]["image_size"]
    stated = {
        "model_type": "siglip",
        "text_config": {**usual, **config["text"], "hidden_size": width, "model_type": "siglip_text_model"},
        "vision_config": {**usual, **config["vision"], "num_channels": 3, "model_type": "siglip_vision_model"},
    }
    (folder / "config.json").write_text(json.dumps(stated), encoding="utf-8")
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "size": {"height": size, "width": size},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
