"""The published layout of a CLIP-FlanT5, of what was trained here.

Names are those of the authors' checkpoints, which are the Hugging Face library's names for a T5.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from plumbline_models.networks.flant5.arch import T5Arch, TowerArch
from plumbline_models.networks.flant5.score_module import FlanT5Score
from plumbline_training.answering import Answering
from plumbline_training.towers import CONFIG as CLIP_CONFIG

VISION: Final[dict[str, Any]] = CLIP_CONFIG["model_cfg"]["vision_cfg"]
RESIZED: Final[dict[str, Any]] = CLIP_CONFIG["preprocess_cfg"]
FFN_RATIO: Final = 4  # of CLIP's transformers
USED_BLOCKS: Final = VISION["layers"] - 1
CONFIG: Final[dict[str, Any]] = {
    "model_type": "clip_t5",
    "architectures": ["CLIPT5ForConditionalGeneration"],
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 3,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "relative_attention_num_buckets": 64,
    "relative_attention_max_distance": 160,
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": 1e-6,
    "is_encoder_decoder": True,
    "tie_word_embeddings": False,
    "pad_token_id": 0,  # nosec B105  # no password
    "eos_token_id": 1,  # nosec B105  # no password
    "decoder_start_token_id": 0,  # nosec B105  # no password
    "mm_hidden_size": VISION["width"],
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "../mini-clip",
    "mm_use_im_start_end": False,
    "image_aspect_ratio": "square",
    "plumbline": {"conversation": "t5_plain"},
}
"""Images are squashed, as `preprocessor_config.json` says, and asked about in the wording of `plumbline`."""
PREPROCESSOR: Final[dict[str, Any]] = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"height": VISION["image_size"], "width": VISION["image_size"]},
    "resample": 3,
    "do_center_crop": False,
    "image_mean": RESIZED["mean"],
    "image_std": RESIZED["std"],
}


def tower_arch() -> TowerArch:
    """Sizes of mini-clip's image tower without its last block, and of the projector."""
    return TowerArch(
        image_px=VISION["image_size"],
        patch_px=VISION["patch_size"],
        width=VISION["width"],
        num_blocks=USED_BLOCKS,
        num_heads=VISION["width"] // VISION["head_width"],
        ffn_width=FFN_RATIO * VISION["width"],
        norm_epsilon=1e-5,
        has_quick_gelu=True,
        mean=tuple(RESIZED["mean"]),
        std=tuple(RESIZED["std"]),
        projected_width=CONFIG["d_model"],
    )


def t5_arch(num_tokens: int) -> T5Arch:
    """Sizes of encoder and decoder, for a vocabulary of that many pieces."""
    return T5Arch(
        width=CONFIG["d_model"],
        head_width=CONFIG["d_kv"],
        num_heads=CONFIG["num_heads"],
        ffn_width=CONFIG["d_ff"],
        num_encoder_blocks=CONFIG["num_layers"],
        num_decoder_blocks=CONFIG["num_decoder_layers"],
        num_buckets=CONFIG["relative_attention_num_buckets"],
        max_distance=CONFIG["relative_attention_max_distance"],
        norm_epsilon=CONFIG["layer_norm_epsilon"],
        num_tokens=num_tokens,
        start_id=CONFIG["decoder_start_token_id"],
    )


def tower_state(clip: CLIP) -> dict[str, Tensor]:
    """The blocks in use of an open_clip image tower, as `FlanT5Image` names them."""
    source: Mapping[str, Tensor] = clip.visual.state_dict()
    state = {
        "class_token": source["class_embedding"],
        "positions": source["positional_embedding"],
        "patches.weight": source["conv1.weight"],
        "norm.weight": source["ln_pre.weight"],
        "norm.bias": source["ln_pre.bias"],
    }
    scale = VISION["head_width"] ** -0.5
    for index in range(USED_BLOCKS):
        block, target = f"transformer.resblocks.{index}.", f"blocks.{index}."
        for kind in ("weight", "bias"):
            joint = source[f"{block}attn.in_proj_{kind}"].clone()
            joint[: VISION["width"]] *= scale
            state[f"{target}query_key_value.{kind}"] = joint
            for theirs, ours in _TOWER_NAMES:
                state[f"{target}{ours}.{kind}"] = source[f"{block}{theirs}.{kind}"]
    return state


_TOWER_NAMES: Final = (
    ("attn.out_proj", "out"),
    ("ln_1", "attention_norm"),
    ("ln_2", "ffn_norm"),
    ("mlp.c_fc", "up"),
    ("mlp.c_proj", "down"),
)


def write_checkpoint(folder: Path, answering: Answering) -> None:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors`, float16.

    The tower is mini-clip's own: the configuration points to the folder beside this one.
    """
    tensors = {**dict(_projector(answering)), **dict(_t5(answering.answers))}
    save_file({name: one.detach().half().contiguous() for name, one in tensors.items()}, folder / "model.safetensors")
    for name, values in (("config", CONFIG), ("preprocessor_config", PREPROCESSOR)):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _projector(answering: Answering) -> Iterator[tuple[str, Tensor]]:
    for number, layer in ((0, answering.image.project_in), (2, answering.image.project_out)):
        yield f"mm_projector.{number}.weight", layer.weight
        yield f"mm_projector.{number}.bias", layer.bias


def _t5(answers: FlanT5Score) -> Iterator[tuple[str, Tensor]]:
    state = answers.state_dict()
    yield "shared.weight", state["tokens"]
    yield "lm_head.weight", state["vocabulary.weight"]
    for stack, blocks in (("encoder", answers.encoder_blocks), ("decoder", answers.decoder_blocks)):
        yield f"{stack}.final_layer_norm.weight", state[f"{stack}_norm.weight"]
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield bias, state[f"{stack}_bias.parametrizations.table.original"]
        for index in range(len(blocks)):
            start = f"{stack}_blocks.{index}."
            own = {name.removeprefix(start): state[name] for name in state if name.startswith(start)}
            for name, one in _t5_block(own, last=2 if stack == "decoder" else 1):
                yield f"{stack}.block.{index}.layer.{name}", one


def _t5_block(own: Mapping[str, Tensor], *, last: int) -> Iterator[tuple[str, Tensor]]:
    for part, rows in zip("qkv", own["attention.query_key_value.weight"].chunk(3), strict=True):
        yield f"0.SelfAttention.{part}.weight", rows
    yield "0.SelfAttention.o.weight", own["attention.out.weight"]
    yield "0.layer_norm.weight", own["attention.norm.weight"]
    if "cross.key" in own:
        yield "1.EncDecAttention.q.weight", own["cross.query.weight"]
        yield "1.EncDecAttention.k.weight", own["cross.key"].flatten(0, 1)
        yield "1.EncDecAttention.v.weight", own["cross.value"].transpose(1, 2).flatten(0, 1)
        yield "1.EncDecAttention.o.weight", own["cross.out.weight"]
        yield "1.layer_norm.weight", own["cross.norm.weight"]
    for number, rows in enumerate(own["ffn.gate_and_value.weight"].chunk(2)):
        yield f"{last}.DenseReluDense.wi_{number}.weight", rows
    yield f"{last}.DenseReluDense.wo.weight", own["ffn.down.weight"]
    yield f"{last}.layer_norm.weight", own["ffn.norm.weight"]
