"""The image half of causal question-answering networks: the tokens that stand for an image in the prompt.

It runs once per image, however many captions the image is scored against.
"""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.engines import Engine
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import EncoderKind
from plumbline_models.networks.causal.pixels import ResizedImage
from plumbline_models.networks.causal.published import PublishedNetwork
from plumbline_models.networks.causal.rules import PixelRules
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts
from plumbline_models.networks.fingerprint import fingerprint

if TYPE_CHECKING:
    from plumbline_models.networks.causal.towers import CausalImage

PACKAGES: Final = ("networks.causal", "weights")
_MAX_IMAGES: Final = 16
_MAX_TILES, _MAX_SIDE_PX = 64, 8192
_TYPICAL_PIXELS: Final = 512 * 512
_MAX_BATCH_COST: Final = 16.0


@dataclass(frozen=True, slots=True)
class PreprocessedImage:
    """An image as its network takes it."""

    resized: ResizedImage
    key: tuple[int, int]
    """Tells its pixels from any other's."""


@dataclass(frozen=True, slots=True)
class ImageInPrompt:
    """What a pair encoder needs of an image."""

    tokens: NDArray[np.floating[Any]]
    """`[1 + deep, P, D]` float32, or float16 where the backend computes at less than that."""
    grid: tuple[int, int]
    key: tuple[int, int]
    """Tells the tokens from those of any other image, and those of a batch of one from those of a larger batch."""


class CausalImageEncoder(CompiledEncoder[PublishedNetwork, PreprocessedImage, ImageInPrompt]):
    """Encodes images for `CausalPairEncoder`."""

    kind: EncoderKind = "image"

    @property
    def key(self) -> str:
        """The checkpoint's label, then `/image`."""
        return f"{self.checkpoint.label}/image"

    @property
    def max_batch_cost(self) -> float:
        """In images of 512 by 512 pixels."""
        return _MAX_BATCH_COST

    def bucket(self, preprocessed: PreprocessedImage) -> Hashable:
        """Images of one size."""
        return preprocessed.resized.tiles.shape

    def cost(self, preprocessed: PreprocessedImage) -> float:
        """By pixels."""
        return max(0.1, preprocessed.resized.tiles.size / 3 / _TYPICAL_PIXELS)

    def _max_inputs(self) -> int:
        return _MAX_IMAGES

    def _preprocess(self, raw: Pixels) -> PreprocessedImage:
        """Resize the image as its family does.

        Raises:
            ImageError: The image has a shape that the family does not take.
        """
        resized = self.checkpoint.pixels.preprocess(raw)
        digest = hashlib.blake2b(resized.tiles.tobytes(), digest_size=16)
        digest.update(repr((resized.tiles.shape, resized.grid)).encode())
        low, high = np.frombuffer(digest.digest(), dtype=np.int64).tolist()
        return PreprocessedImage(resized, (low, high))

    def _usual_input(self) -> PreprocessedImage:
        return self._preprocess(np.zeros((64, 64, 3), dtype=np.uint8))

    def _graph(self) -> Graph:
        checkpoint, rules = self.checkpoint, self.checkpoint.pixel_rules
        return Graph(
            name="causal_image",
            inputs=(TensorSpec("pixels", "uint8", _shape_of_pixels(rules)),),
            outputs=("image_encodings",),
            fingerprint=fingerprint(checkpoint.sha256, checkpoint.facts, repr(rules), packages=PACKAGES),
            build=partial(_build, checkpoint),
            exceeds_fp16=True,
        )

    def _collate(self, part: Sequence[PreprocessedImage]) -> Mapping[str, Array]:
        pixels, rules = np.stack([image.resized.tiles for image in part]), self.checkpoint.pixel_rules
        if rules.order == "merged":
            rows, columns = part[0].resized.grid
            pixels = pixels.reshape(len(part), rows, rules.side_px, columns, rules.side_px, 3)
        return {"pixels": pixels}

    def _run(self, engine: Engine, part: Sequence[PreprocessedImage]) -> Sequence[ImageInPrompt]:
        found = super()._run(engine, part)
        if len(part) == 1:
            return found
        return [replace(each, key=(each.key[0], ~each.key[1])) for each in found]  # what is kept by key differs in bits

    def _read(self, preprocessed: PreprocessedImage, outputs: Mapping[str, Array]) -> ImageInPrompt:
        tokens = outputs["image_encodings"].astype(self._stored_dtype)
        return ImageInPrompt(tokens, preprocessed.resized.grid, preprocessed.key)

    def _numbers(self, encoding: ImageInPrompt) -> Iterable[Any]:
        return (encoding.tokens,)

    def _facts(self) -> NetworkFacts:
        checkpoint = self.checkpoint
        notes = {
            "family": checkpoint.family.name,
            "pixels": str(checkpoint.pixels),
            "resize": checkpoint.pixels.resize,
        }
        return NetworkFacts(
            arch=checkpoint.family.name, sha256=checkpoint.sha256, dim=checkpoint.sizes.width, notes=notes
        )


def _shape_of_pixels(rules: PixelRules) -> tuple[int | Dim, ...]:
    batch, side = Dim("batch", 1, 1, _MAX_IMAGES), rules.side_px
    if rules.order == "merged":
        most = _MAX_SIDE_PX // side
        return batch, Dim("rows", 1, 16, most), side, Dim("columns", 1, 16, most), side, 3
    return batch, Dim("tiles", 1, 17, _MAX_TILES) if rules.order == "tiles" else 1, side, side, 3


def _build(checkpoint: PublishedNetwork) -> "CausalImage":
    from plumbline_models.networks.causal.towers import CausalImage  # noqa: PLC0415 - torch, when compiling

    return CausalImage(checkpoint.network.model, checkpoint.pixel_rules)
