"""QualiCLIP's encoder: an image at its own size to how much nearer each good prompt is than its bad one.

Resolution is part of the metric, so images are not resized. Two bounds keep one image from taking all memory and
time: one with more pixels than `max_pixels`, or with a side beyond what the graph takes, is scaled down in proportion
with Pillow's bicubic filter until both hold, and its row says to what size.

Only images of the very same size share a batch: padding would change the mean token, and on a CPU larger batches give
no more images a second anyway.
"""

import math
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import EngineError, ImageTooSmallError, InvalidFieldError, PlumblineError, SetupError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Engine, Origin, PairInput
from plumbline_models.images.resizing import pillow_arithmetic
from plumbline_models.networks.clip.flops import image_gflop
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.qualiclip.arch import MIN_SIDE_PX, TrunkArch
from plumbline_models.networks.qualiclip.graph import MAX_BATCH, MAX_SIDE_PX, qualiclip_graph
from plumbline_models.networks.qualiclip.prompts import QualityPrompts
from plumbline_models.networks.warming import require_numbers
from plumbline_models.weights.digest import sha256_of

MAX_PIXELS: Final = 4_000_000
"""A core takes half a minute for as many with RN50."""
UNIT_PX: Final = 224 * 224
"""What an input of cost 1 has."""
MAX_BATCH_COST: Final = 16.0
_TYPICAL_PX = 384 * 512
_WARM_SIZE = (224, 224, 3)

MarginsP: TypeAlias = NDArray[np.float32]
"""`[P]`: cosine with the good prompt of each pair less that with the bad one, in [-2, 2]."""


@dataclass(frozen=True, slots=True)
class SizedPixels:
    """An image as it is encoded, and whether that is its own size."""

    pixels: Pixels
    was_resized: bool = False


@dataclass(frozen=True, slots=True)
class QualityEncoding:
    """What the encoder makes of an image."""

    margins: MarginsP
    resized_to: tuple[int, int] | None = None
    """Height and width, where they are not the image's own."""


class QualiClipEncoder:
    """Images to margins.

    Args:
        spec: The CLIP ResNet.
        prompts: Which prompts, and whether the checkpoint's own may take their place.
        backend: Compiles the graph.
        max_pixels: Larger images are scaled down to it.

    Raises:
        UnknownArchError: The image tower is no CLIP ResNet.
    """

    kind: EncoderKind = "image"

    def __init__(
        self, spec: ClipSpec, prompts: QualityPrompts, *, backend: Backend, max_pixels: int = MAX_PIXELS
    ) -> None:
        TrunkArch.of(spec.arch)
        self.spec = spec
        self.max_pixels = max_pixels
        self._prompts = prompts
        self._backend = backend
        self._engine: Engine | None = None
        self._info: EncoderInfo | None = None
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """Such as `RN50-quickgelu@6af55455/qualiclip`; what follows the slash names the prompts.

        The bound on pixels stands behind where it is not the usual one, since larger images give other rows then.
        """
        variant = "" if self.max_pixels == MAX_PIXELS else f"+{self.max_pixels}px"
        return f"{self.spec.name}/{self._prompts.name}{variant}"

    @property
    def max_batch_cost(self) -> float:
        """Images of 224x224 pixels."""
        return MAX_BATCH_COST

    @property
    def gflop(self) -> float:
        """Of one image of 384x512 pixels."""
        height_px, width_px = self.spec.arch.image_size_px
        return image_gflop(self.spec.arch) * _TYPICAL_PX / (height_px * width_px)

    def preprocess(self, raw: Pixels | str | PairInput) -> SizedPixels:
        """Take the pixels as they are, or scaled down if they are too many.

        Raises:
            ImageTooSmallError: A side has fewer than 31 pixels, or would have once the image is scaled down.
            InvalidFieldError: It is no image.
        """
        if not isinstance(raw, np.ndarray):
            raise InvalidFieldError("This encoder takes images.", kind=type(raw).__name__)
        height, width = raw.shape[:2]
        _check_side(height, width)
        target = _bounded_size(height, width, self.max_pixels)
        if target == (height, width):
            return SizedPixels(np.ascontiguousarray(raw))
        _check_side(*target)
        scaled = Image.fromarray(raw).resize((target[1], target[0]), Image.Resampling.BICUBIC)
        return SizedPixels(np.asarray(scaled), was_resized=True)

    def load_preprocessing(self) -> None:
        """Nothing: images are taken as they are."""

    def bucket(self, preprocessed: SizedPixels) -> Hashable:
        """Height and width."""
        return preprocessed.pixels.shape

    def cost(self, preprocessed: SizedPixels) -> float:
        """In units of 224x224 pixels."""
        height, width = preprocessed.pixels.shape[:2]
        return float(height * width / UNIT_PX)

    @property
    def checkpoint(self) -> ClipSpec:
        """What it reads."""
        return self.spec

    def origin(self) -> Origin:
        """Of the weights."""
        return self.spec.origin

    def load(self) -> None:
        """Compile or fetch the engine and run one image through it.

        Raises:
            CheckpointError: The weights cannot be had or do not fit.
            EngineError: The graph does not compile or run, or gives no numbers.
        """
        with self._lock:
            if self._engine is not None:
                return
            engine = self._backend.compile(self._graph())
            warm = engine.run({"pixels": np.zeros((1, *_WARM_SIZE), dtype=np.uint8)})
            require_numbers(warm.values(), self, engine.info)
            self._info = self._describe(engine)
            self._engine = engine

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[SizedPixels]) -> Sequence[QualityEncoding | PlumblineError]:
        """Encode images of one size.

        Returns:
            A row for each, or an error where the engine gave something else than numbers.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._engine is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        rows: list[QualityEncoding | PlumblineError] = []
        for first in range(0, len(batch), MAX_BATCH):
            part = batch[first : first + MAX_BATCH]
            outputs = self._engine.run({"pixels": np.stack([sized.pixels for sized in part])})
            margins = np.asarray(outputs["margins"], dtype=np.float32)
            rows.extend(self._row(sized, row) for sized, row in zip(part, margins, strict=True))
        return rows

    def _row(self, sized: SizedPixels, margins: MarginsP) -> QualityEncoding | PlumblineError:
        if not np.isfinite(margins).all():
            return EngineError("The engine gave no number for this input.", encoder=self.key)
        height, width = sized.pixels.shape[:2]
        return QualityEncoding(margins, (height, width) if sized.was_resized else None)

    def _graph(self) -> Graph:
        return qualiclip_graph(self.spec, self._prompts)

    def _describe(self, engine: Engine) -> EncoderInfo:
        spec, ran = self.spec, engine.info
        return EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch=spec.arch.name,
            source=spec.source,
            licence=spec.licence,
            sha256=sha256_of(spec.fetch()),
            dim=spec.arch.embed_dim,
            backend=ran.backend,
            precision=ran.precision,
            device=ran.device,
            notes={
                "prompts": self._prompts.name,
                "pixels": f"own size, at most {self.max_pixels} pixels",
                "resize": pillow_arithmetic(),
            },
            num_streams=ran.num_streams,
        )


def _check_side(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE_PX:
        raise ImageTooSmallError(
            f"The image is scored at {height}x{width} pixels, and each side needs at least {MIN_SIDE_PX}.",
            height=height,
            width=width,
        )


def _bounded_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Height and width within both bounds, in proportion, rounded down."""
    scale = min(math.sqrt(max_pixels / (height * width)), MAX_SIDE_PX / max(height, width))
    if scale >= 1:
        return height, width
    return int(height * scale), int(width * scale)
