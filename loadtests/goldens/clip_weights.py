"""Weights for any CLIP that anyone can make again, bit for bit, without a download.

Each tensor has its own legacy NumPy generator, whose bits depend on no library's initialiser and on no CPU:

    seed of the tensor = (seed * 1000003 + crc32(its name)) mod 2**32
    u                  = RandomState(seed of the tensor).random_sample(size)     float64 in [0, 1), row by row
    value              = offset + (u - 0.5) * sqrt(12) * std                     float64, then cast to float32

`RECIPE` gives offset and std. Two pairs of tensors share a generator, so that image and text embeddings correlate a
little and cosines lie around 0.1.
"""

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]

SHARED = {
    "text_projection": "proj",
    "visual.proj": "proj",
    "ln_final.bias": "ln_out.bias",
    "visual.ln_post.bias": "ln_out.bias",
}
# The first entry whose text is in the name: (text, offset, std of a tensor of this shape).
RECIPE: tuple[tuple[str, float, Callable[[Shape], float]], ...] = (
    ("logit_scale", math.log(100.0), lambda _: 0.0),
    ("proj.bias", 0.0, lambda _: 0.05),
    ("in_proj_bias", 0.0, lambda _: 0.05),
    ("in_proj_weight", 0.0, lambda shape: 1.2 * shape[1] ** -0.5),
    ("out_proj.weight", 0.0, lambda shape: 0.6 * shape[1] ** -0.5),
    ("c_fc.weight", 0.0, lambda shape: 1.0 * shape[1] ** -0.5),
    ("c_proj.weight", 0.0, lambda shape: 0.5 * shape[1] ** -0.5),
    ("c_fc.bias", 0.0, lambda _: 0.05),
    ("proj", 0.0, lambda _: 0.045),
    ("ln_final.bias", 0.0, lambda _: 0.5),
    ("ln_post.bias", 0.0, lambda _: 0.5),
    ("token_embedding", 0.0, lambda _: 0.5),
    ("visual.positional_embedding", 0.0, lambda _: 0.3),
    ("positional_embedding", 0.0, lambda _: 0.2),
    ("class_embedding", 0.0, lambda _: 0.5),
    ("conv1.weight", 0.0, lambda shape: (shape[1] * shape[2] * shape[3]) ** -0.5),
    (".weight", 1.0, lambda _: 0.2),  # what is left are layer norms
    (".bias", 0.0, lambda _: 0.1),
)


def make_weights(shapes: Mapping[str, Shape], seed: int) -> dict[str, NDArray[np.float32]]:
    """Make float32 arrays for a mapping of open_clip's names to shapes.

    Args:
        shapes: Of every tensor, by its name.
        seed: Of the whole checkpoint; each tensor derives its own from it.
    """
    return {name: _make(name, tuple(shape), seed) for name, shape in shapes.items()}


def weights_sha256(weights: Mapping[str, NDArray[Any]]) -> str:
    """Digest over names in order, each with its little-endian float32 bytes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).astype("<f4").tobytes())
    return digest.hexdigest()


def _make(name: str, shape: Shape, seed: int) -> NDArray[np.float32]:
    offset, std = next((offset, rule(shape)) for text, offset, rule in RECIPE if text in name)
    crc = zlib.crc32(SHARED.get(name, name).encode())
    generator = np.random.RandomState((seed * 1000003 + crc) % 2**32)
    uniform = generator.random_sample(math.prod(shape))
    return (offset + (uniform - 0.5) * (math.sqrt(12.0) * std)).astype(np.float32).reshape(shape)
