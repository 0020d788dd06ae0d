"""Golden numbers and images of the preference scores, and how the weights behind them are drawn.

Each tensor has a generator of its own, as in `clip_weights`, under the names of the published files.
"""

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loadtests import goldens
from loadtests.goldens.clip_weights import weights_sha256
from plumbline_models.core.arrays import Pixels
from plumbline_models.images.decode import DecodePolicy, decode

GOLDEN: Final = goldens.GOLDEN / "preference"
AS_PUBLISHED: Final = DecodePolicy(exif_orientation="ignore", alpha="drop")
Parameter: TypeAlias = tuple[str, tuple[int, ...], float, float]
"""Name, shape, standard deviation, offset."""
Tensors: TypeAlias = dict[str, NDArray[Any]]


def record(name: str) -> dict[str, Any]:
    """The golden numbers of one scorer."""
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return found


def arrays(name: str) -> dict[str, NDArray[Any]]:
    """The golden arrays of one scorer."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return dict(stored)


def image(name: str) -> Pixels:
    """A golden image, decoded as the authors' programs do."""
    return decode((GOLDEN / "images" / f"{name}.png").read_bytes(), AS_PUBLISHED)


def draw(parameters: Iterable[Parameter], seed: int, *, salt: str = "", dtype: Any = np.float32) -> Tensors:
    """Tensors by name.

    Args:
        parameters: What each is drawn by.
        seed: Of the whole checkpoint.
        salt: Put before every name for its generator.
        dtype: What they are rounded to.
    """
    drawn: Tensors = {}
    for name, shape, std, offset in parameters:
        generator = np.random.RandomState((seed * 1000003 + zlib.crc32((salt + name).encode())) % 2**32)
        uniform = generator.random_sample(math.prod(shape))
        drawn[name] = (offset + (uniform - 0.5) * (math.sqrt(12.0) * std)).astype(dtype).reshape(shape)
    return drawn


def check_digest(tensors: Mapping[str, NDArray[Any]], expected: str) -> None:
    """Compare tensors with those that the golden numbers were made with.

    Raises:
        RuntimeError: They are others.
    """
    if weights_sha256({name: each for name, each in tensors.items() if each.dtype.kind == "f"}) != expected:
        raise RuntimeError("The weights made are not those of the golden numbers.")


def linear(
    name: str, out: int, into: int, gain: float, *, bias: float = 0.1, offset: float = 0.0
) -> Iterator[Parameter]:
    """A linear layer's weight and bias."""
    yield f"{name}.weight", (out, into), gain * into**-0.5, 0.0
    yield f"{name}.bias", (out,), bias, offset


def norm(name: str, width: int) -> Iterator[Parameter]:
    """A layer norm's weight and bias."""
    yield f"{name}.weight", (width,), 0.2, 1.0
    yield f"{name}.bias", (width,), 0.1, 0.0
