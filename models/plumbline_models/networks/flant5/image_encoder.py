"""The image half of CLIP-FlanT5: what stands for an image in front of the question.

It runs once per image, however many captions the image is scored against.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array, Pixels, ResizedPixels
from plumbline_models.core.engines import Backend
from plumbline_models.core.graph import Dim, Graph, ShippedForm, TensorSpec
from plumbline_models.core.protocols import EncoderKind
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resample import pillow_arithmetic
from plumbline_models.images.square import crop_square, mean_fill, pad_square
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.states import image_state
from plumbline_models.networks.flant5.tower_state import Named
from plumbline_models.weights.embedded import EMBEDDED, embedded_folder, shipped_form
from plumbline_models.weights.weight_files import find_weights_in

if TYPE_CHECKING:
    from plumbline_models.networks.flant5.tower_module import FlanT5Image

ImageTokens: TypeAlias = NDArray[np.floating[Any]]
"""`[P, D]` float32 or float16: what stands for one image in the encoder's input."""
Aspect: TypeAlias = Literal["pad", "square", "squash"]
"""`pad`: the whole image, in a square of the mean colour; `square`: its centre; `squash`: the whole, distorted."""

ARCH: Final = "clip-flant5"
PACKAGES: Final = ("networks.flant5", "weights")
_MAX_BATCH: Final = 16


class FlanT5ImageEncoder(CompiledEncoder[FlanT5Checkpoint, ResizedPixels, ImageTokens]):
    """Encodes images for `FlanT5PairEncoder`.

    Args:
        checkpoint: Whose tower and projector.
        backend: Compiles them.
        aspect: What becomes of images that are not square; None: what the checkpoint says.
    """

    kind: EncoderKind = "image"

    def __init__(self, checkpoint: FlanT5Checkpoint, backend: Backend, *, aspect: Aspect | None = None) -> None:
        super().__init__(checkpoint, lambda: backend)
        self._stated_aspect = aspect

    @property
    def key(self) -> str:
        """The checkpoint's label, the aspect where it is configured, then `/image`."""
        variant = f"+{self._stated_aspect}" if self._stated_aspect else ""
        return f"{self.checkpoint.label}{variant}/image"

    @property
    def max_batch_cost(self) -> float:
        """All images cost the same."""
        return float(_MAX_BATCH)

    def bucket(self, preprocessed: ResizedPixels) -> Hashable:
        """One for all."""
        return preprocessed.shape

    def cost(self, preprocessed: ResizedPixels) -> float:
        """One each."""
        del preprocessed
        return 1.0

    def _max_inputs(self) -> int:
        return _MAX_BATCH

    @property
    def _aspect(self) -> str:
        return self._stated_aspect or self.checkpoint.aspect

    def _preprocess(self, raw: Pixels) -> ResizedPixels:
        """Pad, crop or squash to the tower's square.

        Raises:
            ImageError: The image cannot be padded.
        """
        arch = self.checkpoint.tower_arch
        if self._aspect == "pad":
            return pad_square(raw, arch.image_px, mean_fill(arch.mean))
        if self._aspect == "squash":
            return preprocess_pixels(raw, PreprocessSpec(size=(arch.image_px, arch.image_px), mode="squash"))
        return crop_square(raw, arch.image_px)

    def _usual_input(self) -> ResizedPixels:
        return self._preprocess(np.zeros((64, 64, 3), dtype=np.uint8))

    def _graph(self) -> Graph:
        arch, checkpoint = self.checkpoint.tower_arch, self.checkpoint
        batch = Dim("batch", 1, 1, _MAX_BATCH)
        facts = repr((arch, checkpoint.sha256))
        return Graph(
            name="flant5_image",
            inputs=(TensorSpec("pixels", "uint8", (batch, arch.image_px, arch.image_px, 3)),),
            outputs=("image_encodings",),
            fingerprint=fingerprint("flant5_image", facts, packages=PACKAGES),
            build=partial(_build, checkpoint),
            output_shapes=((batch, arch.num_patches, arch.projected_width),),
            shipped=shipped_flant5(checkpoint, "flant5_image", image_state),
        )

    def _collate(self, part: Sequence[ResizedPixels]) -> Mapping[str, Array]:
        return {"pixels": np.stack(part)}

    def _read(self, preprocessed: ResizedPixels, outputs: Mapping[str, Array]) -> ImageTokens:
        del preprocessed
        return outputs["image_encodings"].astype(self._stored_dtype)

    def _facts(self) -> NetworkFacts:
        arch = self.checkpoint.tower_arch
        notes = {"pixels": f"{self._aspect}, {arch.image_px} px", "resize": pillow_arithmetic()}
        return NetworkFacts(arch=ARCH, sha256=self.checkpoint.sha256, dim=arch.projected_width, notes=notes)


def shipped_flant5(
    checkpoint: FlanT5Checkpoint, graph: str, state: Callable[[FlanT5Checkpoint], Iterable[Named]]
) -> ShippedForm | None:
    """Where the exported form of a graph came with the checkpoint.

    Args:
        checkpoint: Of either half.
        graph: Its name.
        state: Reads its tensors.
    """
    folder = embedded_folder(checkpoint.label)
    if folder is None or checkpoint.origin.source != EMBEDDED:
        return None
    return shipped_form(find_weights_in(folder), graph, lambda: dict(state(checkpoint)))


def _build(checkpoint: FlanT5Checkpoint) -> "FlanT5Image":
    from plumbline_models.networks.flant5.weights import build_image_graph  # noqa: PLC0415 - torch, when compiling

    return build_image_graph(checkpoint)
