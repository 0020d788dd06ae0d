"""The graph of a QualiCLIP as a torch module, filled with an image tower and the features of its prompts.

The authors' checkpoint (https://github.com/miccunifi/QualiCLIP) holds a CLIP under `clip_model.` and, ready made, the
features of its prompts under `prompts_features`. Any other CLIP ResNet does as well: its own text tower then makes
the features. Without them, and with OpenAI's weights, that is CLIP-IQA with seven pairs of prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import StateDictError, UnknownArchError
from plumbline_models.networks.clip.arch import TextArch
from plumbline_models.networks.clip.archs import Arch
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.state_dicts import fill, sort_tensors
from plumbline_models.networks.clip.text_tower import ClipText, TextTower
from plumbline_models.networks.clip.tokenizer import ClipTokenizer
from plumbline_models.networks.qualiclip.arch import TrunkArch
from plumbline_models.networks.qualiclip.folding import OF_CLIP, OF_IMAGE, STORED, WHITE, fold
from plumbline_models.networks.qualiclip.module import QualiClip
from plumbline_models.networks.qualiclip.prompts import QualityPrompts
from plumbline_models.weights.archive import quantised
from plumbline_models.weights.loading import read_tensors


@dataclass(frozen=True, slots=True)
class QualiClipTensors:
    """What the graph is made of."""

    image: Mapping[str, Tensor]
    """Of the image tower, under the names that open_clip's tower gives them."""
    prompts: Tensor
    """`[2P, D]` unit-norm features, good and bad in turn."""


def load_qualiclip(spec: ClipSpec, prompts: QualityPrompts) -> QualiClipTensors:
    """Fetch, check and read the weights; make the prompts' features where they are not stored.

    Args:
        spec: Where the weights are.
        prompts: Which prompts.

    Raises:
        CheckpointError: The weights cannot be had, are not those that the configuration means, would run code, or
            lack a tower that is needed.
        UnknownArchError: Features are to be made, and the text tower is not CLIP's own.
    """
    tensors = read_tensors(spec.fetch())
    stored = tensors.pop(STORED, None)
    tensors = {name.removeprefix(OF_CLIP): tensor for name, tensor in tensors.items()}
    if stored is not None and prompts.may_be_stored:
        features = _checked(stored, spec.arch)
    else:
        features = encode_prompts(spec.arch, dict(sort_tensors(tensors).text), prompts.texts)
    image = {name.removeprefix(OF_IMAGE): tensor for name, tensor in tensors.items() if name.startswith(OF_IMAGE)}
    return QualiClipTensors(image, features)


def build_qualiclip(
    arch: TrunkArch, tensors: QualiClipTensors, *, mean: Sequence[float], std: Sequence[float]
) -> QualiClip:
    """Make the graph's module, float32, in eval mode.

    Args:
        arch: Sizes of the image tower.
        tensors: The checkpoint's.
        mean: Of pixels in 0..1, red, green, blue.
        std: The same.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    image = {name: _as_array(tensor, name) for name, tensor in tensors.image.items()}
    folded = fold(arch, image, tensors.prompts.numpy(), std=std)
    with torch.device("meta"):  # no memory: the folded tensors take the place of the parameters
        graph = QualiClip(arch, len(tensors.prompts) // 2, mean=[WHITE * value for value in mean])
    graph.load_state_dict({name: torch.from_numpy(array) for name, array in folded.items()}, assign=True)
    graph.requires_grad_(requires_grad=False)
    return graph.eval()


def encode_prompts(arch: Arch, text_tensors: dict[str, Tensor], texts: Sequence[str]) -> Tensor:
    """`[len(texts), D]` unit-norm features, float32.

    Args:
        arch: Whose text tower.
        text_tensors: Its weights, by open_clip's names.
        texts: What to encode.

    Raises:
        UnknownArchError: The text tower is not CLIP's own.
        StateDictError: The tensors do not fit it.
    """
    if not arch.has_clip_text:
        raise UnknownArchError(f"The text tower of {arch.name} is not CLIP's own.", arch=arch.name)
    with torch.device("meta"):  # no memory: the checkpoint's tensors take the place of the parameters
        tower = TextTower(TextArch.of(arch))
    fill(tower, text_tensors, name="text")
    tokenizer = ClipTokenizer(arch.context_length)
    ids = [torch.from_numpy(tokenizer.encode(text).ids) for text in texts]
    with torch.inference_mode():
        features: Tensor = ClipText(tower).eval()(torch.nn.utils.rnn.pad_sequence(ids, batch_first=True))
    return features.clone()


def _as_array(tensor: Tensor, name: str) -> Array:
    if tensor.is_floating_point() and tensor.dtype != torch.float32:
        raise quantised(name, str(tensor.dtype))
    array: Array = tensor.numpy()
    return array


def _checked(stored: Tensor, arch: Arch) -> Tensor:
    is_pairs = stored.ndim == 2 and len(stored) >= 2 and len(stored) % 2 == 0  # noqa: PLR2004 - two a pair
    if stored.dtype != torch.float32:
        raise quantised(STORED, str(stored.dtype))
    if not is_pairs or stored.shape[1] != arch.embed_dim:
        raise StateDictError(
            f"The checkpoint's {STORED} has the shape {list(stored.shape)}, not [2 * pairs, {arch.embed_dim}]."
        )
    return stored
