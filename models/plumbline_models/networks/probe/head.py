"""A head on an encoding: affine layers with rectifiers between some of them, in numpy.

Layers with no rectifier between them are one affine map; they are multiplied out when the head is made, in double
precision. So LAION's linear aesthetic predictor, five layers without an activation, costs one dot product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import StateDictError


@dataclass(frozen=True, slots=True)
class Layer:
    """`weight @ x + bias`, then a rectifier or nothing.

    Args:
        weight: `[out, in]`.
        bias: `[out]`.
        is_rectified: Whether negative results become 0.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    is_rectified: bool


@dataclass(frozen=True, slots=True)
class Head:
    """Layers that end in one number.

    Args:
        weights: `[out, in]` float32 of each layer; a rectifier follows each but the last.
        biases: `[out]` float32 of each.
        mean: `[width]`, taken from an encoding first; not multiplied out, since what it is scaled by may be large.
    """

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    mean: NDArray[np.float32]

    @classmethod
    def of(cls, layers: Sequence[Layer], *, mean: NDArray[np.float64] | None = None) -> Self:
        """Multiply out what no rectifier separates.

        Args:
            layers: At least one; the last one's `is_rectified` is passed over.
            mean: Taken from an encoding first.

        Raises:
            StateDictError: Their shapes do not fit together, or do not end in one number; or they hold NaN.
        """
        folded: list[Layer] = []
        for layer in layers:
            _check(layer, folded[-1] if folded else None)
            if folded and not folded[-1].is_rectified:
                before = folded.pop()
                bias = layer.weight @ before.bias + layer.bias
                layer = Layer(layer.weight @ before.weight, bias, layer.is_rectified)  # noqa: PLW2901
            folded.append(layer)
        if folded[-1].bias.size != 1:
            raise StateDictError(f"The head ends in {folded[-1].bias.size} numbers, not in one.")
        return cls(
            tuple(layer.weight.astype(np.float32) for layer in folded),
            tuple(layer.bias.astype(np.float32) for layer in folded),
            np.zeros(folded[0].weight.shape[1], np.float32) if mean is None else mean.astype(np.float32),
        )

    @property
    def width(self) -> int:
        """Of the encodings that it takes."""
        return self.weights[0].shape[1]

    def apply(self, encoding: Array) -> float:
        """What it makes of one encoding, `[width]`; so of each by itself, that no neighbour moves the last bit."""
        values = np.asarray(encoding, np.float32) - self.mean
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = weight @ values + bias
            if index < last:
                values = np.maximum(values, np.float32(0))
        return float(values[0])


def _check(layer: Layer, before: Layer | None) -> None:
    is_fit = layer.weight.ndim == 2 and layer.bias.shape == layer.weight.shape[:1]  # noqa: PLR2004 - a matrix
    if not is_fit or (before is not None and layer.weight.shape[1] != before.weight.shape[0]):
        raise StateDictError("The layers of the head do not fit together.", shape=layer.weight.shape)
    if not np.isfinite(layer.weight).all() or not np.isfinite(layer.bias).all():
        raise StateDictError("The head holds NaN or infinite values.")
