"""An open_clip ViT as a folder of the Hugging Face library's CLIP, for baselines that read nothing else.

    python -m loadtests.baselines.hugging_face_clip WEIGHTS.safetensors FOLDER [--arch ViT-B-32-quickgelu]

writes the folder in the layout of the published CLIPs, reads it back with transformers, and fails where an embedding
differs from open_clip's. Queries, keys and values lie in three matrices there and in one here; output projections are
transposed.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

LARGEST_DIFFERENCE: Final = 1e-5
"""Of an entry of a unit embedding: both libraries round float32 differently."""
CAPTION: Final = "a red cup, two dogs and an old house"
START, END = "<|startoftext|>", "<|endoftext|>"
_RENAMED: Final = (
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),  # spelt so in the published files
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
)
_IN_BLOCKS: Final = (
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
_TRANSPOSED: Final = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


def write_folder(weights: Path, folder: Path, sizes: Mapping[str, Any]) -> None:
    """Write configuration, tensors, vocabulary and preprocessing.

    Args:
        weights: A safetensors file with open_clip's names.
        sizes: What `open_clip.get_model_config` says of the architecture: a ViT beside CLIP's own text tower.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(_rename(load_file(weights))), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in {
        "config.json": _config(sizes),
        "preprocessor_config.json": _preprocessor(sizes["vision_cfg"]["image_size"]),
        **_tokenizer(sizes["text_cfg"]["context_length"]),
    }.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def largest_difference(own: open_clip.CLIP, folder: Path) -> float:
    """How far the embeddings of a network and of the folder lie apart at most.

    The folder's own tokenizer reads the caption. Pixels are noise that is normalised already: the library's versions
    resize differently, with Pillow as open_clip does until 4 and with torchvision from 5.
    """
    from transformers import CLIPModel, CLIPTokenizerFast  # noqa: PLC0415 - writing a folder does without

    theirs = CLIPModel.from_pretrained(folder).eval()  # nosec B615  # of a local folder
    side = theirs.config.vision_config.image_size
    pixels = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    tokens = CLIPTokenizerFast.from_pretrained(folder)([CAPTION], return_tensors="pt")  # nosec B615  # of a local folder
    with torch.inference_mode():
        found = theirs(pixel_values=pixels, **tokens)
        image = own.encode_image(pixels, normalize=True)
        text = own.encode_text(open_clip.tokenize([CAPTION]), normalize=True)
    pairs = ((found.image_embeds, image), (found.text_embeds, text))
    return max(float((one - other).abs().max()) for one, other in pairs)


def _rename(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name in _TRANSPOSED:
            yield _TRANSPOSED[name], tensor.T.contiguous()
        elif ".attn.in_proj_" in name:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                yield _rename_one(name).replace(".attn.in_proj_", f".self_attn.{part}_proj."), rows.contiguous()
        else:
            yield _rename_one(name), tensor


def _rename_one(name: str) -> str:
    for old, new in _RENAMED:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in _IN_BLOCKS:
        name = name.replace(old, new)
    return name


def _config(sizes: Mapping[str, Any]) -> dict[str, Any]:
    vision, text, width = sizes["vision_cfg"], sizes["text_cfg"], sizes["embed_dim"]
    activation = {"hidden_act": "quick_gelu" if sizes.get("quick_gelu") else "gelu"}
    tower = {"num_channels": 3, "image_size": vision["image_size"], "patch_size": vision["patch_size"]}
    vocabulary = {
        "vocab_size": text["vocab_size"],
        "max_position_embeddings": text["context_length"],
        "bos_token_id": text["vocab_size"] - 2,
        "eos_token_id": text["vocab_size"] - 1,
        "pad_token_id": text["vocab_size"] - 1,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": width,
        "vision_config": {
            "model_type": "clip_vision_model",
            **_transformer(vision, num_heads=vision["width"] // vision.get("head_width", 64)),
            **activation,
            **tower,
            "projection_dim": width,
        },
        "text_config": {
            "model_type": "clip_text_model",
            **_transformer(text, num_heads=text["heads"]),
            **activation,
            **vocabulary,
            "projection_dim": width,
        },
    }


def _transformer(tower: Mapping[str, Any], *, num_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower.get("mlp_ratio", 4.0)),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": num_heads,
        "layer_norm_eps": 1e-5,
    }


def _preprocessor(image_size: int) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": int(Image.Resampling.BICUBIC),
        "do_center_crop": True,
        "crop_size": {"height": image_size, "width": image_size},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": open_clip.OPENAI_DATASET_MEAN,
        "image_std": open_clip.OPENAI_DATASET_STD,
    }


def _tokenizer(context_length: int) -> dict[str, Any]:
    """The vocabulary that open_clip ships, in the words of the published files."""
    own = open_clip.SimpleTokenizer()
    tokens = [*list(own.encoder)[:-2], START, END]
    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    return {
        "vocab.json": {token: number for number, token in enumerate(tokens)},
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]),
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": context_length,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", default="ViT-B-32-quickgelu")
    options = parser.parse_args()
    write_folder(options.weights, options.folder, open_clip.get_model_config(options.arch))
    own = open_clip.create_model(options.arch, pretrained=str(options.weights)).eval()
    difference = largest_difference(own, options.folder)
    if difference > LARGEST_DIFFERENCE:
        raise SystemExit(f"Embeddings differ by {difference:.1e}, more than {LARGEST_DIFFERENCE:.0e}.")
    print(f"Embeddings differ by {difference:.1e} at most.")


if __name__ == "__main__":
    main()
