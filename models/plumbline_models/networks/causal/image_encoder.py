"""The image half of causal question-answering networks: the rows that stand for an image in the prompt.

It runs once an image, however many captions the image is held against.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError, SetupError
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Engine, Origin, PairInput
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.pixels import ResizedImage
from plumbline_models.networks.causal.rules import PixelRules
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.warming import require_numbers

if TYPE_CHECKING:
    from plumbline_models.networks.causal.towers import CausalImage

OpenBackend: TypeAlias = Callable[[], Backend]

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

    rows: NDArray[np.floating[Any]]
    """`[1 + deep, P, D]` float32, or float16 where the backend computes at less than that."""
    grid: tuple[int, int]
    key: tuple[int, int]


class CausalImageEncoder:
    """Encodes images for `CausalPairEncoder`.

    Args:
        open_backend: Opens what runs the network, when it is loaded.
    """

    kind: EncoderKind = "image"

    def __init__(self, checkpoint: CausalCheckpoint, open_backend: OpenBackend) -> None:
        self._checkpoint = checkpoint
        self._open_backend = open_backend
        self._engine: Engine | None = None
        self._info: EncoderInfo | None = None

    @property
    def key(self) -> str:
        """The checkpoint's label, then `/image`."""
        return f"{self._checkpoint.label}/image"

    @property
    def max_batch_cost(self) -> float:
        """In images of 512 by 512 pixels."""
        return _MAX_BATCH_COST

    def preprocess(self, raw: Pixels | str | PairInput) -> PreprocessedImage:
        """Fit the image as its family does.

        Raises:
            ImageError: The image has a shape that the family does not take.
            InvalidFieldError: It is no image.
        """
        if not isinstance(raw, np.ndarray):
            raise InvalidFieldError("This encoder takes images.", kind=type(raw).__name__)
        resized = self._checkpoint.pixels.preprocess(raw)
        digest = hashlib.blake2b(resized.tiles.tobytes(), digest_size=16)
        digest.update(repr((resized.tiles.shape, resized.grid)).encode())
        low, high = np.frombuffer(digest.digest(), dtype=np.int64).tolist()
        return PreprocessedImage(resized, (low, high))

    def load_preprocessing(self) -> None:
        """Prepare one image, which reads how the checkpoint has images fitted.

        Raises:
            CheckpointError: It cannot be had.
        """
        self.preprocess(np.zeros((64, 64, 3), dtype=np.uint8))

    def bucket(self, preprocessed: PreprocessedImage) -> Hashable:
        """Images of one size."""
        return preprocessed.resized.tiles.shape

    def cost(self, preprocessed: PreprocessedImage) -> float:
        """By pixels."""
        return max(0.1, preprocessed.resized.tiles.size / 3 / _TYPICAL_PIXELS)

    @property
    def checkpoint(self) -> CausalCheckpoint:
        """What it reads."""
        return self._checkpoint

    def origin(self) -> Origin:
        """Of the checkpoint."""
        return self._checkpoint.origin

    def load(self) -> None:
        """Load the network and run one small image through it.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
            EngineError: They do not run, or give no numbers.
        """
        if self._engine is not None:
            return
        engine = self._open_backend().compile(self._graph())
        blank = engine.run({"pixels": self._stack([self.preprocess(np.zeros((64, 64, 3), dtype=np.uint8))])})[
            "image_encodings"
        ]
        require_numbers([blank], self, engine.info)
        self._engine = engine
        self._info = EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch=self._checkpoint.family.name,
            source=self._checkpoint.origin.source,
            licence=self._checkpoint.origin.licence,
            sha256=self._checkpoint.sha256,
            dim=blank.shape[-1],
            backend=engine.info.backend,
            precision=engine.info.precision,
            device=engine.info.device,
            notes={
                "family": self._checkpoint.family.name,
                "pixels": str(self._checkpoint.pixels),
                "resize": self._checkpoint.pixels.resize,
            },
            num_streams=engine.info.num_streams,
        )

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[PreprocessedImage]) -> Sequence[ImageInPrompt | PlumblineError]:
        """Encode images of one size.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._engine is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        kept = np.dtype(np.float32 if self._engine.info.precision == "fp32" else np.float16)
        found: list[ImageInPrompt | PlumblineError] = []
        for images in _chunks(batch):
            rows = self._engine.run({"pixels": self._stack(images)})["image_encodings"]
            found.extend(
                ImageInPrompt(each.astype(kept), image.resized.grid, image.key)
                for image, each in zip(images, rows, strict=True)
            )
        return found

    def _stack(self, images: Sequence[PreprocessedImage]) -> Array:
        pixels, rules = np.stack([image.resized.tiles for image in images]), self._checkpoint.pixel_rules
        if rules.order != "merged":
            return pixels
        rows, columns = images[0].resized.grid
        return pixels.reshape(len(images), rows, rules.side_px, columns, rules.side_px, 3)

    def _graph(self) -> Graph:
        rules = self._checkpoint.pixel_rules
        return Graph(
            name="causal_image",
            inputs=(TensorSpec("pixels", "uint8", _shape_of_pixels(rules)),),
            outputs=("image_encodings",),
            fingerprint=fingerprint(self._checkpoint.sha256, self._checkpoint.facts, repr(rules), packages=PACKAGES),
            build=partial(_build, self._checkpoint),
            exceeds_fp16=True,
        )


def _shape_of_pixels(rules: PixelRules) -> tuple[int | Dim, ...]:
    batch, side = Dim("batch", 1, 1, _MAX_IMAGES), rules.side_px
    if rules.order == "merged":
        most = _MAX_SIDE_PX // side
        return batch, Dim("rows", 1, 16, most), side, Dim("columns", 1, 16, most), side, 3
    return batch, Dim("tiles", 1, 17, _MAX_TILES) if rules.order == "tiles" else 1, side, side, 3


def _build(checkpoint: CausalCheckpoint) -> "CausalImage":
    from plumbline_models.networks.causal.towers import CausalImage  # noqa: PLC0415 - torch, when compiling

    return CausalImage(checkpoint.network.model, checkpoint.pixel_rules)


def _chunks(batch: Sequence[PreprocessedImage]) -> list[Sequence[PreprocessedImage]]:
    return [batch[first : first + _MAX_IMAGES] for first in range(0, len(batch), _MAX_IMAGES)]
