"""The tensors of a CLIP-FlanT5's image tower, in either layout: that of the Hugging Face library, or open_clip's.

Both hold the same network. open_clip keeps queries, keys and values in one matrix, and the sizes of both towers in
one file.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.networks.flant5.arch import TowerArch
from plumbline_models.weights.shards import Shards

Named: TypeAlias = tuple[str, Array]
"""A tensor in float32, behind its name."""
INSIDE: Final = "vision_tower.vision_tower."
"""What stands before the Hugging Face library's names where the tower is in the checkpoint itself."""
_OPEN_CLIP: Final = "visual."


def tower_state(shards: Shards, arch: TowerArch) -> Iterator[Named]:
    """The tower's tensors, by the names of `FlanT5Image`.

    Args:
        shards: Of the tower, or of the checkpoint that it is part of.
        arch: Sizes.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    if shards.has_prefix(_OPEN_CLIP):
        yield from _from_open_clip(shards, arch)
    else:
        prefix = INSIDE if shards.has_prefix(INSIDE) else ""
        yield from _from_hugging_face(shards, f"{prefix}vision_model.", arch)


def _from_hugging_face(shards: Shards, prefix: str, arch: TowerArch) -> Iterator[Named]:
    width, embeddings = arch.width, f"{prefix}embeddings."
    yield "class_token", shards.read(f"{embeddings}class_embedding", (width,))
    yield "positions", shards.read(f"{embeddings}position_embedding.weight", (1 + arch.num_patches, width))
    patch_shape = (width, 3, arch.patch_px, arch.patch_px)
    yield "patches.weight", shards.read(f"{embeddings}patch_embedding.weight", patch_shape)
    yield from affine(shards, f"{prefix}pre_layrnorm", "norm", (width,))  # spelt so by its authors
    for index in range(arch.num_blocks):
        source, target = f"{prefix}encoder.layers.{index}.", f"blocks.{index}."
        for kind, shape in (("weight", (width, width)), ("bias", (width,))):
            query, key, value = (shards.read(f"{source}self_attn.{part}_proj.{kind}", shape) for part in "qkv")
            yield f"{target}query_key_value.{kind}", np.concatenate([query * _scale(arch), key, value])
        yield from affine(shards, f"{source}self_attn.out_proj", f"{target}out", (width, width))
        yield from affine(shards, f"{source}layer_norm1", f"{target}attention_norm", (width,))
        yield from affine(shards, f"{source}layer_norm2", f"{target}ffn_norm", (width,))
        yield from affine(shards, f"{source}mlp.fc1", f"{target}up", (arch.ffn_width, width))
        yield from affine(shards, f"{source}mlp.fc2", f"{target}down", (width, arch.ffn_width))


def _from_open_clip(shards: Shards, arch: TowerArch) -> Iterator[Named]:
    width = arch.width
    yield "class_token", shards.read(f"{_OPEN_CLIP}class_embedding", (width,))
    yield "positions", shards.read(f"{_OPEN_CLIP}positional_embedding", (1 + arch.num_patches, width))
    yield "patches.weight", shards.read(f"{_OPEN_CLIP}conv1.weight", (width, 3, arch.patch_px, arch.patch_px))
    yield from affine(shards, f"{_OPEN_CLIP}ln_pre", "norm", (width,))
    for index in range(arch.num_blocks):
        source, target = f"{_OPEN_CLIP}transformer.resblocks.{index}.", f"blocks.{index}."
        for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
            joint = shards.read(f"{source}attn.in_proj_{kind}", shape)
            yield f"{target}query_key_value.{kind}", np.concatenate([joint[:width] * _scale(arch), joint[width:]])
        yield from affine(shards, f"{source}attn.out_proj", f"{target}out", (width, width))
        yield from affine(shards, f"{source}ln_1", f"{target}attention_norm", (width,))
        yield from affine(shards, f"{source}ln_2", f"{target}ffn_norm", (width,))
        yield from affine(shards, f"{source}mlp.c_fc", f"{target}up", (arch.ffn_width, width))
        yield from affine(shards, f"{source}mlp.c_proj", f"{target}down", (width, arch.ffn_width))


def affine(shards: Shards, source: str, target: str, shape: tuple[int, ...]) -> Iterator[Named]:
    """A weight of that shape, and its bias.

    Args:
        shards: Where they are read.
        source: The layer's name there.
        target: Its name here.
        shape: Of the weight.
    """
    yield f"{target}.weight", shards.read(f"{source}.weight", shape)
    yield f"{target}.bias", shards.read(f"{source}.bias", shape[:1])


def _scale(arch: TowerArch) -> float:
    return float((arch.width // arch.num_heads) ** -0.5)
