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

from plumbline_models.checkpoints.causal import CausalCheckpoint
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError, SetupError
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Engine, Origin, PairInput
from plumbline_models.encoders.warming import require_numbers
from plumbline_models.graphs.causal_rules import PixelRules
from plumbline_models.graphs.fingerprint import CAUSAL_CODE, fingerprint
from plumbline_models.images.vlm_pixels import FittedImage

if TYPE_CHECKING:
    from plumbline_models.graphs.causal_image import CausalImage

OpenBackend: TypeAlias = Callable[[], Backend]

_PARTS: Final = tuple(f"plumbline_models.graphs.causal_{name}" for name in ("image", "towers", "merged_tower"))
_CODE: Final = (*_PARTS, *CAUSAL_CODE)
_MAX_IMAGES: Final = 16
_MAX_TILES, _MAX_SIDE_PX = 64, 8192
_TYPICAL_PIXELS: Final = 512 * 512
_MAX_BATCH_COST: Final = 16.0


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image as its network takes it."""

    fitted: FittedImage
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

    def prepare(self, raw: Pixels | str | PairInput) -> PreparedImage:
        """Fit the image as its family does.

        Raises:
            ImageError: The image has a shape that the family does not take.
            InvalidFieldError: It is no image.
        """
        if not isinstance(raw, np.ndarray):
            raise InvalidFieldError("This encoder takes images.", kind=type(raw).__name__)
        fitted = self._checkpoint.pixels.fit(raw)
        digest = hashlib.blake2b(fitted.tiles.tobytes(), digest_size=16)
        digest.update(repr((fitted.tiles.shape, fitted.grid)).encode())
        low, high = np.frombuffer(digest.digest(), dtype=np.int64).tolist()
        return PreparedImage(fitted, (low, high))

    def load_preprocessing(self) -> None:
        """Prepare one image, which reads how the checkpoint has images fitted.

        Raises:
            CheckpointError: It cannot be had.
        """
        self.prepare(np.zeros((64, 64, 3), dtype=np.uint8))

    def bucket(self, prepared: PreparedImage) -> Hashable:
        """Images of one size."""
        return prepared.fitted.tiles.shape

    def cost(self, prepared: PreparedImage) -> float:
        """By pixels."""
        return max(0.1, prepared.fitted.tiles.size / 3 / _TYPICAL_PIXELS)

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
        blank = engine.run({"pixels": self._stack([self.prepare(np.zeros((64, 64, 3), dtype=np.uint8))])})["image_rows"]
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

    def encode(self, batch: Sequence[PreparedImage]) -> Sequence[ImageInPrompt | PlumblineError]:
        """Encode images of one size.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._engine is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        kept = np.dtype(np.float32 if self._engine.info.precision == "fp32" else np.float16)
        found: list[ImageInPrompt | PlumblineError] = []
        for images in _chunks(batch):
            rows = self._engine.run({"pixels": self._stack(images)})["image_rows"]
            found.extend(
                ImageInPrompt(each.astype(kept), image.fitted.grid, image.key)
                for image, each in zip(images, rows, strict=True)
            )
        return found

    def _stack(self, images: Sequence[PreparedImage]) -> Array:
        pixels, rules = np.stack([image.fitted.tiles for image in images]), self._checkpoint.pixel_rules
        if rules.order != "merged":
            return pixels
        rows, columns = images[0].fitted.grid
        return pixels.reshape(len(images), rows, rules.side_px, columns, rules.side_px, 3)

    def _graph(self) -> Graph:
        rules = self._checkpoint.pixel_rules
        return Graph(
            name="causal_image",
            inputs=(TensorSpec("pixels", "uint8", _shape_of_pixels(rules)),),
            outputs=("image_rows",),
            fingerprint=fingerprint(self._checkpoint.sha256, self._checkpoint.facts, repr(rules), code=_CODE),
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
    from plumbline_models.graphs.causal_image import CausalImage  # noqa: PLC0415 - torch, when compiling

    return CausalImage(checkpoint.network.model, checkpoint.pixel_rules)


def _chunks(batch: Sequence[PreparedImage]) -> list[Sequence[PreparedImage]]:
    return [batch[first : first + _MAX_IMAGES] for first in range(0, len(batch), _MAX_IMAGES)]
