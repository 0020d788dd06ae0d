"""ImageReward's tiny network, in the published layout."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from loadtests.goldens.preference.drawing import Parameter, check_digest, draw, linear, norm, record

_HEAD: Final = (0, 2, 4, 6, 7)
_SPECIAL: Final = ("[PAD]", *(f"[unused{index}]" for index in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build_image_reward(folder: Path) -> Path:
    """A folder with the published files: weights, `med_config.json` and the vocabulary."""
    spec = record("imagereward")["weights"]
    arch, lines = spec["arch"], vocabulary(spec["vocab"])
    num_words = len(lines) + 2  # [DEC] and [ENC] stand behind the file's tokens
    tensors = draw(image_reward_parameters(arch, num_words), spec["seed"])
    check_digest(tensors, spec["weights_sha256"])
    tensors["blip.text_encoder.embeddings.position_ids"] = np.arange(512)[None]
    torch.save({name: torch.from_numpy(each) for name, each in tensors.items()}, folder / "ImageReward.pt")
    config = {
        "model_type": "bert",
        "hidden_size": arch["hidden_size"],
        "intermediate_size": arch["intermediate_size"],
        "num_attention_heads": arch["num_attention_heads"],
        "num_hidden_layers": arch["num_hidden_layers"],
        "vocab_size": num_words,
        "encoder_width": arch["hidden_size"],  # wrong, as in the published file
        "add_cross_attention": True,
    }
    (folder / "med_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "bert-base-uncased").mkdir()
    (folder / "bert-base-uncased" / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def vocabulary(spec: Mapping[str, str]) -> list[str]:
    """Lines of `vocab.txt`: control tokens where BERT has them, then characters, words and continuations."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()] + list(spec["chars"])
    continued = [f"##{char}" for char in letters if char.isalnum()]
    pieces = [f"##{piece}" for piece in spec["pieces"].split()]
    return list(dict.fromkeys([*_SPECIAL, *letters, *continued, *spec["words"].split(), *pieces]))


def image_reward_parameters(arch: Mapping[str, Any], num_words: int) -> Iterator[Parameter]:
    """The network's tensors.

    Args:
        arch: Sizes.
        num_words: Rows of the table of words.
    """
    width, text_width = arch["vision_width"], arch["hidden_size"]
    yield from _image_parameters(arch)
    embeddings = "blip.text_encoder.embeddings."
    yield f"{embeddings}word_embeddings.weight", (num_words, text_width), 0.7, 0.0
    yield f"{embeddings}position_embeddings.weight", (512, text_width), 0.3, 0.0
    yield from norm(f"{embeddings}LayerNorm", text_width)
    for index in range(arch["num_hidden_layers"]):
        yield from _layer_parameters(f"blip.text_encoder.encoder.layer.{index}.", arch)
    yield from linear("blip.vision_proj", 256, width, 1.0)  # stored, and read by nobody
    yield from linear("blip.text_proj", 256, text_width, 1.0)
    sizes = (text_width, 1024, 128, 64, 16, 1)
    for place, index in enumerate(_HEAD):
        yield from linear(f"mlp.layers.{index}", sizes[place + 1], sizes[place], 1.4, bias=0.05)


def _image_parameters(arch: Mapping[str, Any]) -> Iterator[Parameter]:
    width, patch, tower = arch["vision_width"], arch["patch_size"], "blip.visual_encoder."
    yield f"{tower}cls_token", (1, 1, width), 0.5, 0.0
    yield f"{tower}pos_embed", (1, (arch["image_size"] // patch) ** 2 + 1, width), 0.4, 0.0
    yield f"{tower}patch_embed.proj.weight", (width, 3, patch, patch), 3.0 * (3 * patch**2) ** -0.5, 0.0
    yield f"{tower}patch_embed.proj.bias", (width,), 0.1, 0.0
    for index in range(arch["vision_layers"]):
        block = f"{tower}blocks.{index}."
        yield from norm(f"{block}norm1", width)
        yield from linear(f"{block}attn.qkv", 3 * width, width, 1.5)
        yield from linear(f"{block}attn.proj", width, width, 1.2)
        yield from norm(f"{block}norm2", width)
        yield from linear(f"{block}mlp.fc1", 4 * width, width, 1.4)
        yield from linear(f"{block}mlp.fc2", width, 4 * width, 1.0)
    yield from norm(f"{tower}norm", width)


def _layer_parameters(layer: str, arch: Mapping[str, Any]) -> Iterator[Parameter]:
    width, wide = arch["hidden_size"], arch["intermediate_size"]
    for kind, read in (("attention", width), ("crossattention", arch["vision_width"])):
        yield from linear(f"{layer}{kind}.self.query", width, width, 2.0)
        yield from linear(f"{layer}{kind}.self.key", width, read, 2.0)
        yield from linear(f"{layer}{kind}.self.value", width, read, 1.5)
        yield from linear(f"{layer}{kind}.output.dense", width, width, 1.5)
        yield from norm(f"{layer}{kind}.output.LayerNorm", width)
    yield from linear(f"{layer}intermediate.dense", wide, width, 1.4)
    yield from linear(f"{layer}output.dense", width, wide, 1.0)
    yield from norm(f"{layer}output.LayerNorm", width)
