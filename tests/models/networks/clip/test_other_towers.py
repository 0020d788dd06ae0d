"""Architectures beside CLIP's own: open_clip's modules in our graphs, compiled for a batch that varies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import UnknownArchError
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.graph import clip_image_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from tests.results import succeeded

SAME = 2e-6  # unit-norm embeddings, float32
TEXT: Mapping[str, Any] = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT: Mapping[str, Any] = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2}
TIMM = {"timm_model_name": "test_convnext", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear"}
ARCHS: Mapping[str, Mapping[str, Any]] = {
    "residual": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}, "text_cfg": TEXT},
    "eva": {
        "vision_cfg": {**TIMM, "timm_model_name": "eva02_tiny_patch14_224", "image_size": 224, "timm_pool": "token"},
        "text_cfg": TEXT,
    },
    "timm": {"vision_cfg": {**TIMM, "image_size": 64, "timm_pool": "avg"}, "text_cfg": TEXT},
    "siglip": {
        "custom_text": True,
        "vision_cfg": {**VIT, "pool_type": "avg", "no_ln_pre": True},
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
    "siglip by timm": {  # as open_clip's own names have it
        "embed_dim": 96,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {
            **TIMM,
            "timm_model_name": "test_vit3",
            "image_size": 160,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
    "coca": {
        "custom_text": True,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    },
}


def build(name: str, folder: Path) -> tuple[ClipSpec, Any]:
    """A random CLIP of that architecture, in open_clip's layout, and open_clip's own module of it."""
    config = {"embed_dim": 24, "quick_gelu": False, **ARCHS[name]}
    torch.manual_seed(1)
    clip = open_clip.CustomTextCLIP(
        config["embed_dim"],
        open_clip.CLIPVisionCfg(**config["vision_cfg"]),
        open_clip.CLIPTextCfg(**config["text_cfg"]),
    ).eval()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return ClipSpec.of(ClipSection(checkpoint=folder)), clip


def draw_pixels(spec: ClipSpec, count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, *spec.arch.image_size_px, 3), dtype=np.uint8)


def expect_images(spec: ClipSpec, clip: Any, pixels: np.ndarray) -> np.ndarray:
    config = spec.arch.preprocess_config
    normal = (pixels / np.float32(255) - np.float32(config["mean"])) / np.float32(config["std"])
    with torch.inference_mode():
        made = clip.visual(torch.from_numpy(normal).permute(0, 3, 1, 2))
        made = made[0] if isinstance(made, tuple) else made
        return (made / made.norm(dim=1, keepdim=True)).numpy()


BACKENDS = {"torch_fp32": list(ARCHS), "openvino_fp32": [name for name in ARCHS if name != "eva"]}
"""EVA's smallest takes OpenVINO as long as all others: it was compiled once by hand."""


@pytest.mark.parametrize(
    ("backend", "name"), [(backend, name) for backend, names in BACKENDS.items() for name in names]
)
def test_images_are_embedded_as_by_open_clip(
    name: str, backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    spec, clip = build(name, tmp_path)
    assert not spec.arch.has_clip_image
    encoder = ClipImageEncoder(spec, request.getfixturevalue(backend))
    encoder.load()
    pixels = draw_pixels(spec, 5)
    expected = expect_images(spec, clip, pixels)
    assert np.abs(np.stack(succeeded(encoder.encode(list(pixels)))) - expected).max() <= SAME
    assert np.abs(np.stack(succeeded(encoder.encode([pixels[3]]))) - expected[3]).max() <= SAME


@pytest.mark.parametrize("name", ["siglip", "coca"])
def test_texts_of_other_towers_are_embedded_at_full_context(name: str, tmp_path: Path, torch_fp32: Backend) -> None:
    spec, clip = build(name, tmp_path)
    assert not spec.arch.has_clip_text
    encoder = ClipTextEncoder(spec, torch_fp32)
    encoder.load()
    texts = ["a cup", "two red circles on a table", "word " * 30]
    preprocessed = [encoder.preprocess(text) for text in texts]
    assert {encoder.bucket(ids) for ids in preprocessed} == {12}
    with torch.inference_mode():
        made = clip.text(open_clip.SimpleTokenizer(context_length=12)(texts))
        made = made[0] if isinstance(made, tuple) else made
        expected = (made / made.norm(dim=1, keepdim=True)).numpy()
    assert np.abs(np.stack(succeeded(encoder.encode(preprocessed))) - expected).max() <= SAME


def test_sizes_that_open_clip_cannot_build_are_named(tmp_path: Path) -> None:
    spec, _ = build("residual", tmp_path)
    config = {**spec.arch.config, "vision_cfg": {"layers": [1, 1, 1, 1], "depth": 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    odd = ClipSpec.of(ClipSection(checkpoint=tmp_path))
    with pytest.raises(UnknownArchError, match="open_clip cannot build the towers"):
        clip_image_graph(odd).build()
