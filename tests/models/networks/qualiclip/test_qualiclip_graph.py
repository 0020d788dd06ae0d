"""The folded graph against open_clip's modules, unfolded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import StateDictError, UnknownArchError
from plumbline_models.networks.clip.archs import Arch, find_arch
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.qualiclip.arch import TrunkArch
from plumbline_models.networks.qualiclip.encoder import qualiclip_graph
from plumbline_models.networks.qualiclip.module import QualiClip
from plumbline_models.networks.qualiclip.prompts import QUALICLIP
from plumbline_models.networks.qualiclip.weights import QualiClipTensors, build_qualiclip, load_qualiclip

ROUNDING = 2e-6  # float32 in another order; features have unit norm


def pool_in_full(pool: Any, maps: Tensor) -> Tensor:
    """Every token asks every token, as upstream; the mean token's answer."""
    tokens = maps.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
    answers, _ = functional.multi_head_attention_forward(
        tokens,
        tokens,
        tokens,
        tokens.shape[-1],
        pool.num_heads,
        None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        None,
        None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        training=False,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return answers[0]


def embed_in_full(visual: Any, arch: Arch, pixels: Pixels) -> Tensor:
    mean, std = (torch.tensor(arch.preprocess_config[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    image = ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std)[None]
    with torch.inference_mode():
        maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(image)))))
        return functional.normalize(pool_in_full(visual.attnpool, maps), dim=1)[0]


@pytest.fixture(scope="module")
def tiny_graph(tiny_arch: Arch, tiny_quality: Path) -> QualiClip:
    tensors = load_qualiclip(ClipSpec.of(ClipSection(checkpoint=tiny_quality)), QUALICLIP)
    config = tiny_arch.preprocess_config
    return build_qualiclip(TrunkArch.of(tiny_arch), tensors, mean=config["mean"], std=config["std"])


@pytest.mark.parametrize("size", [(31, 31), (32, 63), (70, 101), (33, 255)], ids=str)
def test_folding_norms_and_pool_changes_nothing(
    tiny_graph: QualiClip, tiny_clip: CLIP, tiny_arch: Arch, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    with torch.inference_mode():
        folded = tiny_graph.embed(torch.from_numpy(pixels)[None])[0]
    np.testing.assert_allclose(folded, embed_in_full(tiny_clip.visual, tiny_arch, pixels), atol=ROUNDING)


def test_an_image_scores_the_same_alone_and_in_a_batch(tiny_graph: QualiClip, image: Pixels) -> None:
    batch = torch.from_numpy(np.stack([image, image[::-1], 255 - image]))
    with torch.inference_mode():
        together = tiny_graph(batch)
        alone = torch.cat([tiny_graph(one[None]) for one in batch])
    np.testing.assert_allclose(together, alone, atol=ROUNDING)


def test_one_export_serves_every_height_width_and_batch(
    tiny_graph: QualiClip, tiny_quality: Path, openvino_fp32: Backend
) -> None:
    engine = openvino_fp32.compile(qualiclip_graph(ClipSpec.of(ClipSection(checkpoint=tiny_quality)), QUALICLIP))
    generator = np.random.default_rng(2)
    for shape in ((1, 31, 31, 3), (1, 40, 640, 3), (3, 65, 33, 3), (2, 224, 224, 3), (1, 31, 4096, 3)):
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = tiny_graph(torch.from_numpy(pixels))
        np.testing.assert_allclose(engine.run({"pixels": pixels})["margins"], expected, atol=ROUNDING)


def test_prompts_are_encoded_as_open_clip_does(tiny_quality: Path, tiny_clip: CLIP) -> None:
    from open_clip import tokenize  # noqa: PLC0415 - its import reads a vocabulary

    tensors = load_qualiclip(ClipSpec.of(ClipSection(checkpoint=tiny_quality)), QUALICLIP)
    with torch.inference_mode():
        expected = tiny_clip.encode_text(tokenize(list(QUALICLIP.texts)), normalize=True)
    np.testing.assert_allclose(tensors.prompts, expected, atol=ROUNDING)


def test_a_vision_transformer_is_refused() -> None:
    with pytest.raises(UnknownArchError, match="needs a CLIP ResNet"):
        TrunkArch.of(find_arch("ViT-B-32-quickgelu"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"layer1.0.bn2.running_var": None}, "has no layer1.0.bn2.running_var", id="missing"),
        pytest.param({"attnpool.q_proj.weight": torch.zeros(3, 3)}, r"shape \[3, 3\]", id="misshapen"),
        pytest.param({"bn1.weight": torch.zeros(4, dtype=torch.int8)}, r"bn1\.weight is stored as int8", id="int8"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tiny_clip: CLIP, tiny_arch: Arch, change: dict[str, Tensor | None], sentence: str
) -> None:
    state = {name: tensor for name, tensor in {**tiny_clip.visual.state_dict(), **change}.items() if tensor is not None}
    prompts = torch.eye(14, tiny_arch.embed_dim)
    with pytest.raises(StateDictError, match=sentence):
        build_qualiclip(TrunkArch.of(tiny_arch), QualiClipTensors(state, prompts), mean=(0.5,) * 3, std=(0.5,) * 3)
