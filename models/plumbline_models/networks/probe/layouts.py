"""The layouts in which heads are published, told apart by the names of their tensors.

| names | who | rectifiers |
| --- | --- | --- |
| `weight`, `bias` | LAION's first aesthetic predictors, and any linear probe | none |
| `layers.{0,2,4,6,7}` | LAION's aesthetic predictors V2 `linearMSE` | none |
| `layers.{0,3,6,9,11}` | the same, `reluMSE` | all but the last |
| `scoring_head.{0,2,4,6,8}` | the aesthetic predictor V2.5 | none |
| `layers.{0,3,6,9,12,15,16}` | LAION's safety detector for ViT-H/14 | the first five |
| `linear_1` to `linear_N` | its detectors for ViT-L/14 and B/32, converted from Keras | all but the last |

`norm.mean` and `norm.variance` beside the last one's are taken from the encoding first, as Keras does. It is also the
layout for heads of one's own. Renumbering one layout into another would load and score noise: nothing is guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.probe.head import Head, Layer

Activation: TypeAlias = Literal["none", "sigmoid", "clip"]
"""What becomes of the head's number: nothing, a probability by the logistic function, or a number within 0 and 1."""
_Tensors: TypeAlias = Mapping[str, NDArray[np.float64]]
_LEAST_DEVIATION: Final = 1e-7  # what Keras divides by at the least


@dataclass(frozen=True, slots=True)
class Layout:
    """A published layout.

    Args:
        name: In the conventions of a scorer.
        layers: Names of its layers, in order.
        num_rectified: Of the first layers, which a rectifier follows.
        licence: Of the published files of this layout.
        is_probability: Whether the published head's number is a probability, not its logit.
    """

    name: str
    layers: tuple[str, ...]
    num_rectified: int
    licence: str = "unknown"
    is_probability: bool = False


def _numbered(prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}.{number}" for number in numbers)


LAYOUTS: Final = (
    Layout("linear", ("",), 0),
    Layout("laion-v2-linear", _numbered("layers", 0, 2, 4, 6, 7), 0, "Apache-2.0"),
    Layout("laion-v2-relu", _numbered("layers", 0, 3, 6, 9, 11), 4, "Apache-2.0"),
    Layout("v2.5", _numbered("scoring_head", 0, 2, 4, 6, 8), 0, "AGPL-3.0"),
    Layout("laion-nsfw-h14", _numbered("layers", 0, 3, 6, 9, 12, 15, 16), 5, "MIT", is_probability=True),
)


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A head as it was read, and whose layout it has."""

    head: Head
    layout: Layout
    sha256: str
    """Of the file."""


def read_head(file: Path, sha256: str) -> StoredHead:
    """Read a head.

    Args:
        file: safetensors, or a pickle of tensors alone.
        sha256: Of the file.

    Raises:
        CheckpointError: The file is damaged, or would run code.
        StateDictError: Its tensors are of no layout here, or do not fit together.
    """
    from plumbline_models.weights.loading import read_tensors  # noqa: PLC0415 - torch

    tensors = {name: tensor.numpy().astype(np.float64) for name, tensor in read_tensors(file).items()}
    layout = _find(tensors)
    last = layout.num_rectified
    layers = [_layer(tensors, name, is_rectified=index < last) for index, name in enumerate(layout.layers)]
    if "norm.mean" not in tensors:
        return StoredHead(Head.of(layers), layout, sha256)
    mean, scaled = _norm(tensors)
    return StoredHead(Head.of([scaled, *layers], mean=mean), layout, sha256)


def _find(tensors: _Tensors) -> Layout:
    names = {name for name in tensors if not name.startswith("norm.")}
    num_linear = len(names) // 2
    mlp = Layout("mlp", tuple(f"linear_{index + 1}" for index in range(num_linear)), max(num_linear - 1, 0))
    layouts = (*LAYOUTS, mlp) if len(names) == len(tensors) else (mlp,)
    for layout in layouts:
        if names == {_tensor(layer, kind) for layer in layout.layers for kind in ("weight", "bias")}:
            return layout
    raise StateDictError(
        f"The head's tensors are of no layout that is known here: {', '.join(sorted(tensors)[:4])}.",
        names=sorted(tensors),
    )


def _tensor(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind


def _layer(tensors: _Tensors, name: str, *, is_rectified: bool) -> Layer:
    weight, bias = tensors[_tensor(name, "weight")], tensors[_tensor(name, "bias")]
    return Layer(weight, np.atleast_1d(bias), is_rectified)


def _norm(tensors: _Tensors) -> tuple[NDArray[np.float64], Layer]:
    """What is taken from an encoding, and the division by the deviation as a layer."""
    mean, variance = tensors["norm.mean"].ravel(), tensors.get("norm.variance", np.empty(0)).ravel()
    if variance.size != mean.size or not np.isfinite(mean).all():
        raise StateDictError("The head has a norm.mean and no norm.variance that fits it.")
    scale = 1.0 / np.maximum(np.sqrt(np.maximum(variance, 0.0)), _LEAST_DEVIATION)
    return mean, Layer(np.diag(scale), np.zeros(mean.size), is_rectified=False)
