"""The image half of CLIP-FlanT5: what stands for an image in front of the question.

It runs once an image, however many captions the image is held against.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Pixels, ResizedPixels
from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError, SetupError
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Engine, Origin, PairInput
from plumbline_models.images.crop_square import crop_square
from plumbline_models.images.pad_square import mean_fill, pad_square
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resizing import pillow_arithmetic
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.warming import require_numbers

if TYPE_CHECKING:
    from plumbline_models.networks.flant5.tower_module import FlanT5Image

ImageTokens: TypeAlias = NDArray[np.floating[Any]]
"""`[P, D]` float32 or float16: the rows of one image in the encoder's input."""
Aspect: TypeAlias = Literal["pad", "square", "squash"]
"""`pad`: the whole image, in a square of the mean colour; `square`: its centre; `squash`: the whole, distorted."""

PACKAGES: Final = ("networks.flant5", "weights")
_MAX_BATCH: Final = 16


class FlanT5ImageEncoder:
    """Encodes images for `FlanT5PairEncoder`.

    Args:
        checkpoint: Whose tower and projector.
        backend: Compiles them.
        aspect: What becomes of images that are not square; None: what the checkpoint says.
    """

    kind: EncoderKind = "image"

    def __init__(self, checkpoint: FlanT5Checkpoint, backend: Backend, *, aspect: Aspect | None = None) -> None:
        self._checkpoint = checkpoint
        self._backend = backend
        self._aspect = aspect
        self._engine: Engine | None = None
        self._info: EncoderInfo | None = None

    @property
    def key(self) -> str:
        """The checkpoint's label, then `/image`."""
        variant = f"+{self._aspect}" if self._aspect else ""
        return f"{self._checkpoint.label}{variant}/image"

    @property
    def max_batch_cost(self) -> float:
        """All images cost the same."""
        return float(_MAX_BATCH)

    def preprocess(self, raw: Pixels | str | PairInput) -> ResizedPixels:
        """Pad, crop or squash to the tower's square.

        Raises:
            ImageError: The image cannot be padded.
            InvalidFieldError: It is no image.
        """
        if not isinstance(raw, np.ndarray):
            raise InvalidFieldError("This encoder takes images.", kind=type(raw).__name__)
        arch = self._checkpoint.tower_arch
        aspect = self._aspect or self._checkpoint.aspect
        if aspect == "pad":
            return pad_square(raw, arch.image_px, mean_fill(arch.mean))
        if aspect == "squash":
            return preprocess_pixels(raw, PreprocessSpec(size=(arch.image_px, arch.image_px), mode="squash"))
        return crop_square(raw, arch.image_px)

    def load_preprocessing(self) -> None:
        """Prepare one image, which reads the checkpoint's configuration.

        Raises:
            CheckpointError: It cannot be had.
        """
        self.preprocess(np.zeros((64, 64, 3), dtype=np.uint8))

    def bucket(self, preprocessed: ResizedPixels) -> Hashable:
        """One for all."""
        return preprocessed.shape

    def cost(self, preprocessed: ResizedPixels) -> float:
        """One each."""
        del preprocessed
        return 1.0

    @property
    def checkpoint(self) -> FlanT5Checkpoint:
        """What it reads."""
        return self._checkpoint

    def origin(self) -> Origin:
        """Of the checkpoint."""
        return self._checkpoint.origin

    def load(self) -> None:
        """Compile or fetch the engine and run one image through it.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
            EngineError: The graph does not compile, or gives no numbers.
        """
        if self._engine is not None:
            return
        arch = self._checkpoint.tower_arch
        engine = self._backend.compile(self._graph())
        blank = np.zeros((1, arch.image_px, arch.image_px, 3), dtype=np.uint8)
        require_numbers(engine.run({"pixels": blank}).values(), self, engine.info)
        self._info = EncoderInfo(
            key=self.key,
            kind=self.kind,
            arch="clip-flant5",
            source=self._checkpoint.origin.source,
            licence=self._checkpoint.origin.licence,
            sha256=self._checkpoint.sha256,
            dim=arch.projected_width,
            backend=engine.info.backend,
            precision=engine.info.precision,
            device=engine.info.device,
            notes={
                "pixels": f"{self._aspect or self._checkpoint.aspect}, {arch.image_px} px",
                "resize": pillow_arithmetic(),
            },
            num_streams=engine.info.num_streams,
        )
        self._engine = engine

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[ResizedPixels]) -> Sequence[ImageTokens | PlumblineError]:
        """Encode images.

        Returns:
            `[P, D]` for each, float32, or float16 where the engine computes at less than that.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        if self._engine is None:
            raise EngineError("The encoder is not loaded yet.", encoder=self.key)
        kept = np.dtype(np.float32 if self._engine.info.precision == "fp32" else np.float16)
        rows: list[ImageTokens | PlumblineError] = []
        for first in range(0, len(batch), _MAX_BATCH):
            result = self._engine.run({"pixels": np.stack(batch[first : first + _MAX_BATCH])})["image_encodings"]
            rows.extend(row.astype(kept) for row in result)
        return rows

    def _graph(self) -> Graph:
        arch, checkpoint = self._checkpoint.tower_arch, self._checkpoint
        batch = Dim("batch", 1, 1, _MAX_BATCH)
        facts = repr((arch, checkpoint.sha256))
        return Graph(
            name="flant5_image",
            inputs=(TensorSpec("pixels", "uint8", (batch, arch.image_px, arch.image_px, 3)),),
            outputs=("image_encodings",),
            fingerprint=fingerprint("flant5_image", facts, packages=PACKAGES),
            build=partial(_build, checkpoint),
            output_shapes=((batch, arch.num_patches, arch.projected_width),),
        )


def _build(checkpoint: FlanT5Checkpoint) -> "FlanT5Image":
    from plumbline_models.networks.flant5.weights import build_image_graph  # noqa: PLC0415 - torch, when compiling

    return build_image_graph(checkpoint)
