"""Checkpoints as CLIP-SVD's program saves them: `weights` beside `metadata`, layers as bases and singular values."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.clip.decomposed import recompose
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.weights import load_clip
from plumbline_models.weights.loading import read_tensors

PARTS = ("q_proj", "k_proj", "v_proj")
SAME = 2e-5  # float32: factors of up to 64 values, multiplied out in float64


def decompose(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What its program makes of a CLIP: attention in four layers, then every layer in two bases and their values."""
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".attn.in_proj_" in name:
            attention, kind = name.split(".in_proj_")
            split |= {f"{attention}.{p}.{kind}": each for p, each in zip(PARTS, tensor.chunk(3), strict=True)}
        else:
            split[name.replace(".attn.out_proj.", ".attn.proj.")] = tensor
    saved: dict[str, Tensor] = {}
    for name, tensor in split.items():
        layer, _, kind = name.rpartition(".")
        prefix = "conv" if tensor.ndim > 2 else "fc"
        is_layer = any(part in name for part in (".mlp.", ".attn.")) or tensor.ndim > 2
        if not is_layer:
            saved[name] = tensor
        elif kind == "bias":
            saved[f"{layer}.{prefix}_U.bias"] = tensor
        else:
            left, values, right = torch.linalg.svd(tensor.flatten(1), full_matrices=False)
            ones = (1,) * (tensor.ndim - 2)
            saved[f"{layer}.{prefix}_U.weight"] = left.reshape(*left.shape, *ones)
            saved[f"{layer}.vector_S"] = values.reshape(1, -1, *ones)
            saved[f"{layer}.{prefix}_V.weight"] = right.reshape(-1, *tensor.shape[1:])
    return saved


@pytest.fixture
def tensors(tiny_folder: Path) -> dict[str, Tensor]:
    return read_tensors(tiny_folder / "open_clip_model.safetensors")


def test_a_checkpoint_of_bases_and_singular_values_is_the_clip_that_they_make(
    tensors: dict[str, Tensor], tiny_folder: Path, tmp_path: Path
) -> None:
    saved = decompose(tensors)
    assert sum(name.endswith(".vector_S") for name in saved) >= 12
    shutil.copy(tiny_folder / "open_clip_config.json", tmp_path)
    whole = {"weights": saved, "metadata": {"image_encoder": True, "text_encoder": True}}
    torch.save(whole, tmp_path / "open_clip_pytorch_model.bin")
    base = load_clip(ClipSpec.of(ClipSection(checkpoint=tiny_folder)))
    found = load_clip(ClipSpec.of(ClipSection(checkpoint=tmp_path)))
    for tower in ("image", "text"):
        expected, got = getattr(base, tower), getattr(found, tower)
        assert got.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(got[name], tensor, atol=SAME, rtol=SAME)


def test_towers_of_timm_keep_their_names() -> None:
    layer = "visual.trunk.blocks.0.attn"
    parts = {
        f"{layer}.{part}.{side}": torch.eye(4) for part in (*PARTS, "proj") for side in ("fc_U.weight", "fc_V.weight")
    }
    values = {f"{layer}.{part}.vector_S": torch.ones(1, 4) for part in (*PARTS, "proj")}
    found = recompose({**parts, **values})
    assert found.keys() == {f"{layer}.qkv.weight", f"{layer}.proj.weight"}
    assert torch.equal(found[f"{layer}.qkv.weight"], torch.cat([torch.eye(4)] * 3))


def test_other_checkpoints_are_left_as_they_are(tensors: dict[str, Tensor]) -> None:
    assert recompose(tensors) is tensors


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"fc_V.weight": None}, "and not both bases", id="a basis is missing"),
        pytest.param({"vector_S": torch.ones(1, 3)}, "has 3 singular values", id="values of another rank"),
        pytest.param({"fc_U.weight": torch.ones(4, 2)}, "its bases have not", id="a basis of another rank"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changed: dict[str, Tensor | None], said: str) -> None:
    layer = "transformer.resblocks.0.mlp.c_fc"
    whole = {"fc_U.weight": torch.ones(4, 4), "fc_V.weight": torch.ones(4, 4), "vector_S": torch.ones(1, 4)}
    kept = {f"{layer}.{name}": tensor for name, tensor in {**whole, **changed}.items() if tensor is not None}
    with pytest.raises(StateDictError, match=said):
        recompose(kept)


def test_half_an_attention_is_refused_by_name() -> None:
    layer = "transformer.resblocks.0.attn.q_proj"
    half = {
        f"{layer}.fc_U.weight": torch.eye(4),
        f"{layer}.fc_V.weight": torch.eye(4),
        f"{layer}.vector_S": torch.ones(4),
    }
    with pytest.raises(StateDictError, match="has not all parts of transformer"):
        recompose(half)
