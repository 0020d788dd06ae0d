"""HPSv3's tiny network, in the published layout."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from loadtests.goldens.preference.drawing import Parameter, check_digest, draw, linear, norm, record

CONTROLS: Final = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_HEAD: Final = (0, 3, 5)


def build_hpsv3(folder: Path) -> Path:
    """A folder with `HPSv3.safetensors`, and in `base/` what belongs to Qwen2-VL beside its weights."""
    spec = record("hpsv3")["weights"]
    pieces = vocabulary(spec["merges"])
    tensors = draw(hpsv3_parameters(spec["arch"], len(pieces) + len(CONTROLS) + 1), spec["seed"])
    check_digest(tensors, spec["weights_sha256"])
    save_file({name: torch.from_numpy(each) for name, each in tensors.items()}, folder / "HPSv3.safetensors")
    (folder / "base").mkdir()
    files = {
        "config.json": configuration(spec, pieces),
        "preprocessor_config.json": {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2},
        "tokenizer.json": tokenizer(pieces, spec["merges"]),
    }
    for name, content in files.items():
        (folder / "base" / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def vocabulary(merges: list[str]) -> dict[str, int]:
    """Byte-level pieces: the 256 bytes in GPT-2's order, then the merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printable] + [chr(256 + place) for place in range(256 - len(printable))]
    return {piece: index for index, piece in enumerate([*letters, *(merge.replace(" ", "") for merge in merges)])}


def tokenizer(pieces: Mapping[str, int], merges: list[str]) -> dict[str, Any]:
    """Qwen2's `tokenizer.json`, with other merges."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    words = {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "added_tokens": [{"id": len(pieces) + place, "content": name, **plain} for place, name in enumerate(CONTROLS)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "vocab": pieces,
            "merges": merges,
        },
    }


def configuration(spec: Mapping[str, Any], pieces: Mapping[str, int]) -> dict[str, Any]:
    """`config.json` of Qwen2-VL; its vocabulary is larger than the tokenizer's, as that of the published one."""
    arch, vision = spec["arch"], spec["arch"]["vision"]
    ids = {name: len(pieces) + place for place, name in enumerate(CONTROLS)}
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    return {
        "model_type": "qwen2_vl",
        "architectures": ["Qwen2VLForConditionalGeneration"],
        **{name: arch[name] for name in sizes},
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": arch["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": arch["mrope_section"]},
        "sliding_window": 32768,
        "use_sliding_window": False,
        "max_window_layers": 28,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": spec["base_vocab_size"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            **vision,
            "in_chans": 3,
            "hidden_size": arch["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "hidden_act": "quick_gelu",
            "model_type": "qwen2_vl",
        },
    }


def hpsv3_parameters(arch: Mapping[str, Any], num_rows: int) -> Iterator[Parameter]:
    """The network's tensors.

    Args:
        arch: Sizes.
        num_rows: Of the table of tokens.
    """
    width, wide = arch["hidden_size"], arch["intermediate_size"]
    yield from _image_parameters(arch)
    yield "model.embed_tokens.weight", (num_rows, width), 0.7, 0.0
    keys = width // arch["num_attention_heads"] * arch["num_key_value_heads"]
    for index in range(arch["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        yield f"{layer}input_layernorm.weight", (width,), 0.2, 1.0
        yield f"{layer}post_attention_layernorm.weight", (width,), 0.2, 1.0
        yield from linear(f"{layer}self_attn.q_proj", width, width, 2.0)
        yield from linear(f"{layer}self_attn.k_proj", keys, width, 2.0)
        yield from linear(f"{layer}self_attn.v_proj", keys, width, 1.5)
        for name, out, into, gain in (
            ("self_attn.o_proj", width, width, 1.5),
            ("mlp.gate_proj", wide, width, 1.4),
            ("mlp.up_proj", wide, width, 1.4),
            ("mlp.down_proj", width, wide, 1.2),
        ):
            yield f"{layer}{name}.weight", (out, into), gain * into**-0.5, 0.0
    yield "model.norm.weight", (width,), 0.2, 1.0
    yield "lm_head.weight", (num_rows, width), 0.1, 0.0  # stored, and read by nobody
    sizes = (width, 1024, 16, 2)
    for place, index in enumerate(_HEAD):
        yield from linear(f"rm_head.{index}", sizes[place + 1], sizes[place], 2.2)


def _image_parameters(arch: Mapping[str, Any]) -> Iterator[Parameter]:
    vision = arch["vision"]
    width, wide = vision["embed_dim"], vision["mlp_ratio"] * vision["embed_dim"]
    yield "visual.patch_embed.proj.weight", (width, 3, 2, 14, 14), 2.0 * (3 * 2 * 196) ** -0.5, 0.0
    for index in range(vision["depth"]):
        block = f"visual.blocks.{index}."
        yield from norm(f"{block}norm1", width)
        yield from norm(f"{block}norm2", width)
        yield from linear(f"{block}attn.qkv", 3 * width, width, 1.5)
        yield from linear(f"{block}attn.proj", width, width, 1.2)
        yield from linear(f"{block}mlp.fc1", wide, width, 1.4)
        yield from linear(f"{block}mlp.fc2", width, wide, 1.0)
    yield from norm("visual.merger.ln_q", width)
    yield from linear("visual.merger.mlp.0", 4 * width, 4 * width, 1.4)
    yield from linear("visual.merger.mlp.2", arch["hidden_size"], 4 * width, 1.0)
