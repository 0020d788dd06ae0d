"""The published tensors of ImageReward, put where our graphs keep them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.blip.arch import IMAGE_PX, BlipArch
from plumbline_models.networks.blip.image_module import BlipImage
from plumbline_models.networks.blip.reward_module import BlipReward
from plumbline_models.networks.clip.state_dicts import fill
from plumbline_models.weights.loading import read_tensors

REWARD_MEAN: Final = 0.16717362830052426  # of the authors' program, over their validation set
REWARD_STD: Final = 1.0333394966054072
IMAGE: Final = "blip.visual_encoder."
TEXT: Final = "blip.text_encoder."
HEAD_LAYERS: Final = (0, 2, 4, 6, 7)
"""Of `mlp.layers`; between them are dropout and no activations, so that they are one affine map."""
_UNUSED: Final = ("blip.vision_proj.", "blip.text_proj.", f"{TEXT}embeddings.position_ids")
_RENAMED: Final = (
    ("embeddings.word_embeddings.", "words."),
    ("embeddings.position_embeddings.", "positions."),
    ("embeddings.LayerNorm.", "norm."),
    ("encoder.layer.", "layers."),
    (".self.", "."),
    ("attention.output.dense.", "attention.out."),
    ("attention.output.LayerNorm.", "attention.norm."),
    (".intermediate.dense.", ".up."),
    (".output.dense.", ".down."),
    (".output.LayerNorm.", ".norm."),
)


def read_arch(file: Path, num_text_heads: int) -> BlipArch:
    """Sizes, as the tensors' shapes say.

    Args:
        file: The weights.
        num_text_heads: Which no shape says.

    Raises:
        StateDictError: The tensors are not those of ImageReward's network.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in read_tensors(file).items()}
    try:
        image_width, _, patch_px, _ = shapes[f"{IMAGE}patch_embed.proj.weight"]
        num_words, text_width = shapes[f"{TEXT}embeddings.word_embeddings.weight"]
        arch = BlipArch(
            patch_px=patch_px,
            image_width=image_width,
            num_image_blocks=_count(shapes, f"{IMAGE}blocks."),
            text_width=text_width,
            num_text_blocks=_count(shapes, f"{TEXT}encoder.layer."),
            num_text_heads=num_text_heads,
            text_ffn_width=shapes[f"{TEXT}encoder.layer.0.intermediate.dense.weight"][0],
            num_words=num_words,
            num_positions=shapes[f"{TEXT}embeddings.position_embeddings.weight"][0],
        )
        num_tokens = shapes[f"{IMAGE}pos_embed"][1]
    except (KeyError, ValueError, IndexError) as error:
        raise StateDictError("The checkpoint's tensors are not those of ImageReward.") from error
    if not arch.num_image_heads or text_width % arch.num_text_heads or num_tokens != arch.num_image_tokens:
        raise StateDictError(
            f"The checkpoint's sizes are not those of ImageReward at {IMAGE_PX} pixels.", num_tokens=num_tokens
        )
    return arch


def build_image_graph(file: Path, arch: BlipArch) -> BlipImage:
    """The image tower with a checkpoint's weights, float32, in eval mode.

    Args:
        file: The weights.
        arch: As `read_arch` found it.

    Raises:
        StateDictError: A tensor is missing, has another shape, or is left over.
    """
    with torch.device("meta"):
        graph = BlipImage(arch)
    tensors = _sort(read_tensors(file))[IMAGE]
    fill(graph, tensors, name="image")
    return graph


def build_reward_graph(file: Path, arch: BlipArch) -> BlipReward:
    """The text encoder and its head with a checkpoint's weights, float32, in eval mode.

    Args:
        file: The weights.
        arch: As `read_arch` found it.

    Raises:
        StateDictError: A tensor is missing, has another shape, or is left over.
    """
    with torch.device("meta"):
        graph = BlipReward(arch)
    parts = _sort(read_tensors(file))
    tensors = {_rename(name): tensor for name, tensor in parts[TEXT].items()}
    weight, bias = _fold(parts["mlp."])
    fill(graph, {**tensors, "head.weight": weight, "head.bias": bias}, name="text")
    return graph


def _sort(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By part, without its prefix; nothing may be left over."""
    parts: dict[str, dict[str, Tensor]] = {IMAGE: {}, TEXT: {}, "mlp.": {}}
    for name, tensor in tensors.items():
        if name.startswith(_UNUSED):
            continue
        part = next((prefix for prefix in parts if name.startswith(prefix)), None)
        if part is None:
            raise StateDictError(f"The checkpoint has a tensor that ImageReward has not: {name}.", name=name)
        parts[part][name.removeprefix(part)] = tensor
    return parts


def _rename(name: str) -> str:
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def _fold(layers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """All layers of the head and the standardisation of its reward, as one affine map."""
    wanted = {f"layers.{index}.{kind}" for index in HEAD_LAYERS for kind in ("weight", "bias")}
    if set(layers) != wanted:
        raise StateDictError("The checkpoint's head is not that of ImageReward.", found=sorted(layers))
    weight, bias = None, None
    for index in HEAD_LAYERS:
        next_weight, next_bias = (layers[f"layers.{index}.{kind}"].double() for kind in ("weight", "bias"))
        try:
            bias = next_bias if bias is None else next_weight @ bias + next_bias
            weight = next_weight if weight is None else next_weight @ weight
        except RuntimeError as error:
            raise StateDictError("The layers of the checkpoint's head do not fit together.") from error
    if weight is None or bias is None or bias.numel() != 1:
        raise StateDictError("The checkpoint's head does not end in one number.")
    return (weight / REWARD_STD).float(), ((bias - REWARD_MEAN) / REWARD_STD).float()


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    numbers = {int(name.removeprefix(prefix).split(".")[0]) for name in shapes if name.startswith(prefix)}
    return max(numbers, default=-1) + 1
