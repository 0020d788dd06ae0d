"""QualiCLIP's encoder: an image at its own size to how much nearer each good prompt is than its bad one.

Resolution is part of the metric, so images are not resized. Two bounds keep one image from taking all memory and
time: one with more pixels than `max_pixels`, or with a side beyond what the graph takes, is scaled down in proportion
with Pillow's bicubic filter until both hold, and its encoding says to what size.

Only images of the very same size share a batch: padding would change the mean token, and on a CPU larger batches
encode no more images per second anyway.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import ImageTooSmallError
from plumbline_models.core.graph import Dim, Graph, ShippedForm, TensorSpec
from plumbline_models.core.protocols import EncoderKind
from plumbline_models.images.resample import pillow_arithmetic
from plumbline_models.networks.clip.encoders import clip_facts
from plumbline_models.networks.clip.flops import image_gflop
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.qualiclip.arch import MIN_SIDE_PX, TrunkArch
from plumbline_models.networks.qualiclip.folding import read_folded
from plumbline_models.networks.qualiclip.prompts import QualityPrompts
from plumbline_models.weights.embedded import EMBEDDED, shipped_form

if TYPE_CHECKING:
    from plumbline_models.networks.qualiclip.module import QualiClip

MAX_PIXELS: Final = 4_000_000
"""A core takes half a minute for as many with RN50."""
MAX_SIDE_PX: Final = 4096
"""Some compilers set memory aside for the largest batch of the largest image."""
UNIT_PX: Final = 224 * 224
"""What an input of cost 1 has."""
MAX_BATCH_COST: Final = 16.0
_MAX_BATCH: Final = 4
_TYPICAL_PX: Final = (384, 512)
_WARM_UP_SIZE: Final = (224, 224, 3)
_PACKAGES: Final = ("networks.qualiclip", "networks.clip", "weights")

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


class QualiClipEncoder(CompiledEncoder[ClipSpec, SizedPixels, QualityEncoding]):
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
        super().__init__(spec, lambda: backend)
        self.max_pixels = max_pixels
        self._prompts = prompts

    @property
    def key(self) -> str:
        """Such as `RN50-quickgelu@6af55455/qualiclip`; what follows the slash names the prompts.

        The bound on pixels stands behind where it is not the usual one, since larger images have other encodings then.
        """
        variant = "" if self.max_pixels == MAX_PIXELS else f"+{self.max_pixels}px"
        return f"{self.checkpoint.name}/{self._prompts.name}{variant}"

    @property
    def max_batch_cost(self) -> float:
        """Images of 224x224 pixels."""
        return MAX_BATCH_COST

    @property
    def gflop(self) -> float:
        """Of one image of 384x512 pixels."""
        arch = self.checkpoint.arch
        return image_gflop(arch) * math.prod(_TYPICAL_PX) / math.prod(arch.image_size_px)

    def bucket(self, preprocessed: SizedPixels) -> Hashable:
        """Height and width."""
        return preprocessed.pixels.shape

    def cost(self, preprocessed: SizedPixels) -> float:
        """In units of 224x224 pixels."""
        height, width = preprocessed.pixels.shape[:2]
        return float(height * width / UNIT_PX)

    def _max_inputs(self) -> int:
        return _MAX_BATCH

    def _preprocess(self, raw: Pixels) -> SizedPixels:
        """Take the pixels as they are, or scaled down if they are too many.

        Raises:
            ImageTooSmallError: A side has fewer than 31 pixels, or would have once the image is scaled down.
        """
        height, width = raw.shape[:2]
        _check_side(height, width)
        target = _bounded_size(height, width, self.max_pixels)
        if target == (height, width):
            return SizedPixels(np.ascontiguousarray(raw))
        _check_side(*target)
        scaled = Image.fromarray(raw).resize((target[1], target[0]), Image.Resampling.BICUBIC)
        return SizedPixels(np.asarray(scaled), was_resized=True)

    def _usual_input(self) -> SizedPixels:
        return SizedPixels(np.zeros(_WARM_UP_SIZE, dtype=np.uint8))

    def _graph(self) -> Graph:
        return qualiclip_graph(self.checkpoint, self._prompts)

    def _collate(self, part: Sequence[SizedPixels]) -> Mapping[str, Array]:
        return {"pixels": np.stack([sized.pixels for sized in part])}

    def _read(self, preprocessed: SizedPixels, outputs: Mapping[str, Array]) -> QualityEncoding:
        height, width = preprocessed.pixels.shape[:2]
        margins = np.asarray(outputs["margins"], dtype=np.float32)
        return QualityEncoding(margins, (height, width) if preprocessed.was_resized else None)

    def _numbers(self, encoding: QualityEncoding) -> Iterable[Any]:
        return (encoding.margins,)

    def _facts(self) -> NetworkFacts:
        notes = {
            "prompts": self._prompts.name,
            "pixels": f"own size, at most {self.max_pixels} pixels",
            "resize": pillow_arithmetic(),
        }
        return clip_facts(self.checkpoint, notes)


def qualiclip_graph(spec: ClipSpec, prompts: QualityPrompts) -> Graph:
    """`pixels` uint8 `[N, H, W, 3]` of any size to `margins` float32 `[N, P]`.

    Args:
        spec: The CLIP ResNet.
        prompts: P pairs.

    Raises:
        UnknownArchError: The image tower is no CLIP ResNet.
        CheckpointError: The weights cannot be had; what is wrong inside of them shows when the graph is built.
    """
    arch = TrunkArch.of(spec.arch)
    facts = ("qualiclip", spec.digest, spec.arch.canonical, prompts.canonical)
    is_embedded = spec.source == EMBEDDED  # with the features of its prompts, so that no tokenizer takes part
    batch = Dim("batch", low=1, typical=1, high=_MAX_BATCH)
    sides = (
        Dim(name, low=MIN_SIDE_PX, typical=typical_px, high=MAX_SIDE_PX)
        for name, typical_px in zip(("height", "width"), _TYPICAL_PX, strict=True)
    )
    return Graph(
        name="qualiclip",
        inputs=(TensorSpec("pixels", "uint8", (batch, *sides, 3)),),
        outputs=("margins",),
        fingerprint=fingerprint(*facts, packages=_PACKAGES, libraries=() if is_embedded else ("open_clip_torch",)),
        build=partial(_build, spec, prompts, arch),
        output_shapes=((batch, len(prompts.pairs)),),
        shipped=_shipped(spec, arch) if is_embedded else None,
    )


def _shipped(spec: ClipSpec, arch: TrunkArch) -> ShippedForm:
    file, std = spec.fetch(), spec.arch.preprocess_config["std"]
    return shipped_form(file, "qualiclip", partial(read_folded, file, arch, std=std))


def _build(spec: ClipSpec, prompts: QualityPrompts, arch: TrunkArch) -> "QualiClip":
    from plumbline_models.networks.qualiclip.weights import (  # noqa: PLC0415 - torch, when compiling
        build_qualiclip,
        load_qualiclip,
    )

    config = spec.arch.preprocess_config
    return build_qualiclip(arch, load_qualiclip(spec, prompts), mean=config["mean"], std=config["std"])


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
