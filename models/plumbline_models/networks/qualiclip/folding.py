"""A CLIP ResNet's published tensors, folded to what the graph `qualiclip` keeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.qualiclip.arch import TrunkArch
from plumbline_models.networks.qualiclip.module import QualiClip
from plumbline_models.networks.qualiclip.trunk import Trunk
from plumbline_models.weights.archive import quantised

_WHITE: Final = 255
_EPSILON: Final = 1e-5  # what the published towers' batch norms add to the variance


@dataclass(frozen=True, slots=True)
class QualiClipTensors:
    """What the graph is made of."""

    image: Mapping[str, Tensor]
    """Of the image tower, under the names that open_clip's tower gives them."""
    prompts: Tensor
    """`[2P, D]` unit-norm features, good and bad in turn."""


def build_qualiclip(
    arch: TrunkArch, tensors: QualiClipTensors, *, mean: Sequence[float], std: Sequence[float]
) -> QualiClip:
    """Make the graph's module, float32, in eval mode; folded in float64 and rounded once.

    Args:
        arch: Sizes of the image tower.
        tensors: The checkpoint's.
        mean: Of pixels in 0..1, red, green, blue.
        std: The same.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    prompts = tensors.prompts.to(torch.float64)
    with torch.device("meta"):  # no memory: the folded tensors take the place of the parameters
        graph = QualiClip(arch, len(prompts) // 2, mean=[_WHITE * value for value in mean])
    source = _Source(tensors.image)
    folded = dict(_fold_trunk(source, graph.trunk, [_WHITE * value for value in std]))
    folded |= dict(_fold_pool(source, arch))
    folded["contrasts"] = (prompts[0::2] - prompts[1::2]).T
    graph.load_state_dict({name: value.to(torch.float32).contiguous() for name, value in folded.items()}, assign=True)
    graph.requires_grad_(requires_grad=False)
    return graph.eval()


class _Source:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise StateDictError(f"The checkpoint's image tower has no {name}.", name=name)
        if tuple(tensor.shape) != shape:
            raise StateDictError(
                f"The checkpoint's {name} has the shape {list(tensor.shape)}, its architecture says {list(shape)}.",
                name=name,
            )
        if tensor.dtype != torch.float32:
            raise quantised(name, str(tensor.dtype))
        return tensor.to(torch.float64)


def _fold_trunk(source: _Source, trunk: Trunk, deviations: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    for name, module in trunk.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        convolution, norm = _published_names(name)
        weight = source.read(f"{convolution}.weight", tuple(module.weight.shape))
        gain, bias, mean, variance = (
            source.read(f"{norm}.{part}", (module.out_channels,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gain / torch.sqrt(variance + _EPSILON)
        if name == "conv1":
            weight = weight / torch.tensor(deviations, dtype=torch.float64).reshape(3, 1, 1)
        yield f"trunk.{name}.weight", weight * gain.reshape(-1, 1, 1, 1)
        yield f"trunk.{name}.bias", bias - mean * gain


def _published_names(name: str) -> tuple[str, str]:
    """Of the convolution and of its batch norm."""
    if name.endswith("downsample"):
        return f"{name}.0", f"{name}.1"
    return name, "bn".join(name.rsplit("conv", 1))


def _fold_pool(source: _Source, arch: TrunkArch) -> Iterator[tuple[str, Tensor]]:
    channels, heads = arch.num_channels, (arch.num_heads, arch.head_width)
    scale = arch.head_width**-0.5
    read = {
        part: source.read(f"attnpool.{part}_proj.weight", (arch.embed_dim if part == "c" else channels, channels))
        for part in "qkvc"
    }
    yield "pool.query.weight", scale * read["q"]
    yield "pool.query.bias", scale * source.read("attnpool.q_proj.bias", (channels,))
    yield "pool.key", read["k"].reshape(*heads, channels)
    yield "pool.value", read["v"].reshape(*heads, channels).transpose(1, 2)
    yield "pool.value_bias", source.read("attnpool.v_proj.bias", (channels,))
    yield "pool.out.weight", read["c"]
    yield "pool.out.bias", source.read("attnpool.c_proj.bias", (arch.embed_dim,))
