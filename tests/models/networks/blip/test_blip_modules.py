"""The two graphs against transformers' own BLIP on random weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plumbline_models.networks.blip.arch import BlipArch
from plumbline_models.networks.blip.image_module import BlipImage
from plumbline_models.networks.blip.reward_module import BlipReward

blip = pytest.importorskip("transformers.models.blip")
SAME = 2e-5  # of tokens after a norm, float32
ARCH = BlipArch(
    patch_px=32,
    image_width=128,
    num_image_blocks=2,
    text_width=48,
    num_text_blocks=3,
    num_text_heads=4,
    text_ffn_width=100,
    num_words=200,
    num_positions=64,
)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGE_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "encoder.layers.": "blocks.",
    "layer_norm": "norm",
    "self_attn.projection.": "attn.proj.",
    "self_attn.qkv.": "attn.qkv.",
    "post_norm.": "norm.",
    "post_layernorm.": "norm.",
}
TEXT_NAMES = {
    "embeddings.word_embeddings.": "words.",
    "embeddings.position_embeddings.": "positions.",
    "embeddings.LayerNorm.": "norm.",
    "encoder.layer.": "layers.",
    ".self.": ".",
    "attention.output.dense.": "attention.out.",
    "attention.output.LayerNorm.": "attention.norm.",
    ".intermediate.dense.": ".up.",
    ".output.dense.": ".down.",
    ".output.LayerNorm.": ".norm.",
}


def randomise(module: nn.Module) -> Any:
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module.eval().requires_grad_(requires_grad=False)


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        new = name
        for old, ours in names.items():
            new = new.replace(old, ours)
        found[new] = tensor
    return {name: tensor for name, tensor in found.items() if not name.endswith("position_ids")}


def test_the_image_tower_is_transformers_vision_model() -> None:
    config = blip.BlipVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=2,
        image_size=224, patch_size=32, layer_norm_eps=1e-6, hidden_act="gelu",
    )  # fmt: skip
    reference = randomise(blip.BlipVisionModel(config))
    ours = BlipImage(ARCH).eval()
    ours.load_state_dict(renamed(reference.state_dict(), IMAGE_NAMES))
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    normal = (pixels.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        expected = reference(normal.permute(0, 3, 1, 2)).last_hidden_state
        assert (ours(pixels) - expected).abs().max() <= SAME


def test_the_text_encoder_is_transformers_text_model_with_the_image_in_every_layer() -> None:
    config = blip.BlipTextConfig(
        vocab_size=200, hidden_size=48, encoder_hidden_size=128, intermediate_size=100, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=64, hidden_act="gelu", layer_norm_eps=1e-12, is_decoder=True,
    )  # fmt: skip
    # A decoder has the cross-attention; called as none, its self-attention looks both ways, as ImageReward's does.
    reference = randomise(blip.modeling_blip_text.BlipTextModel(config, add_pooling_layer=False))
    ours = BlipReward(ARCH).eval()
    head = {name: tensor for name, tensor in ours.state_dict().items() if name.startswith("head.")}
    ours.load_state_dict(renamed(reference.state_dict(), TEXT_NAMES) | head)
    ids = torch.randint(1, 200, (3, 16))
    ids[1, 5:] = 0
    ids[2, 12:] = 0
    image = torch.randn(3, 50, 128)
    with torch.inference_mode():
        hidden = reference(
            input_ids=ids,
            attention_mask=(ids != 0).long(),
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(3, 50, dtype=torch.long),
            is_decoder=False,
        ).last_hidden_state
        expected = nn.functional.linear(hidden[:, 0], ours.head.weight, ours.head.bias)
        assert (ours(ids, image) - expected).abs().max() <= SAME
        assert (ours(ids[1:2, :5], image[1:2]) - expected[1:2]).abs().max() <= SAME  # padding changes nothing
