"""A CLIP ResNet's published tensors, folded to what the graph `qualiclip` keeps; numpy alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.qualiclip.arch import EXPANSION, TrunkArch
from plumbline_models.weights.archive import quantised
from plumbline_models.weights.mapped import PLAIN, MappedTensors

STORED: Final = "prompts_features"
"""Under which the authors' checkpoint holds the features of its prompts, ready made."""
OF_CLIP: Final = "clip_model."
OF_IMAGE: Final = "visual."
"""What stands before the names of its CLIP, and of the image tower of any."""
WHITE: Final = 255
_EPSILON: Final = 1e-5  # what the published towers' batch norms add to the variance
_STEM: Final = ("conv1", "conv2", "conv3")


@np.errstate(invalid="ignore", over="ignore")  # what is no number stays none, and is refused after the first run
def fold(arch: TrunkArch, image: Mapping[str, Array], prompts: Array, *, std: Sequence[float]) -> dict[str, Array]:
    """The graph's tensors in float32, by the names of its module; folded in float64 and rounded once.

    Args:
        arch: Sizes of the image tower.
        image: Of the image tower, under the names that open_clip's tower gives them.
        prompts: `[2P, D]` unit-norm features, good and bad in turn.
        std: Of pixels in 0..1, red, green, blue.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    prompts = prompts.astype(np.float64)
    source = _Source(image)
    folded = dict(_fold_trunk(source, arch, [WHITE * value for value in std]))
    folded |= dict(_fold_pool(source, arch))
    folded["contrasts"] = (prompts[0::2] - prompts[1::2]).T
    return {name: np.ascontiguousarray(value, np.float32) for name, value in folded.items()}


def read_folded(file: Path, arch: TrunkArch, *, std: Sequence[float]) -> dict[str, Array]:
    """As `fold`, of a file of the authors' layout that holds the features of its prompts.

    Args:
        file: safetensors.
        arch: Sizes of the image tower.
        std: Of pixels in 0..1, red, green, blue.

    Raises:
        CheckpointError: The file is damaged, or of another layout.
    """
    mapped, prefix = MappedTensors(file), OF_CLIP + OF_IMAGE
    names = [name for name in mapped if name.startswith(prefix) and mapped.kind_of(name) in PLAIN]
    image = {name.removeprefix(prefix): mapped[name] for name in names}
    return fold(arch, image, mapped[STORED], std=std)


class _Source:
    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise StateDictError(f"The checkpoint's image tower has no {name}.", name=name)
        if tensor.shape != shape:
            raise StateDictError(
                f"The checkpoint's {name} has the shape {list(tensor.shape)}, its architecture says {list(shape)}.",
                name=name,
            )
        if tensor.dtype != np.float32:
            raise quantised(name, str(tensor.dtype))
        return tensor.astype(np.float64)


def _fold_trunk(source: _Source, arch: TrunkArch, deviations: Sequence[float]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, shape in _convolutions(arch):
        convolution, norm = _published_names(name)
        weight = source.read(f"{convolution}.weight", shape)
        gain, bias, mean, variance = (
            source.read(f"{norm}.{part}", shape[:1]) for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gain / np.sqrt(variance + _EPSILON)
        if name == "conv1":
            weight = weight / np.array(deviations, dtype=np.float64).reshape(3, 1, 1)
        yield f"trunk.{name}.weight", weight * gain.reshape(-1, 1, 1, 1)
        yield f"trunk.{name}.bias", bias - mean * gain


def _convolutions(arch: TrunkArch) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Names and shapes of the trunk's convolutions, as `Trunk` has them."""
    widths = (3, arch.width // 2, arch.width // 2, arch.width)
    for name, num_in, num_out in zip(_STEM, widths, widths[1:], strict=False):
        yield name, (num_out, num_in, 3, 3)
    num_in = arch.width
    for stage, num_blocks in enumerate(arch.layers):
        width, num_out = arch.width * 2**stage, arch.width * 2**stage * EXPANSION
        for block in range(num_blocks):
            prefix = f"layer{stage + 1}.{block}."
            yield f"{prefix}conv1", (width, num_in, 1, 1)
            yield f"{prefix}conv2", (width, width, 3, 3)
            yield f"{prefix}conv3", (num_out, width, 1, 1)
            if block == 0:  # where the size or the number of channels changes
                yield f"{prefix}downsample", (num_out, num_in, 1, 1)
            num_in = num_out


def _published_names(name: str) -> tuple[str, str]:
    """Of the convolution and of its batch norm."""
    if name.endswith("downsample"):
        return f"{name}.0", f"{name}.1"
    return name, "bn".join(name.rsplit("conv", 1))


def _fold_pool(source: _Source, arch: TrunkArch) -> Iterator[tuple[str, NDArray[Any]]]:
    channels, heads = arch.num_channels, (arch.num_heads, arch.head_width)
    scale = arch.head_width**-0.5
    read = {
        part: source.read(f"attnpool.{part}_proj.weight", (arch.embed_dim if part == "c" else channels, channels))
        for part in "qkvc"
    }
    yield "pool.query.weight", scale * read["q"]
    yield "pool.query.bias", scale * source.read("attnpool.q_proj.bias", (channels,))
    yield "pool.key", read["k"].reshape(*heads, channels)
    yield "pool.value", read["v"].reshape(*heads, channels).transpose(0, 2, 1)
    yield "pool.value_bias", source.read("attnpool.v_proj.bias", (channels,))
    yield "pool.out.weight", read["c"]
    yield "pool.out.bias", source.read("attnpool.c_proj.bias", (arch.embed_dim,))
