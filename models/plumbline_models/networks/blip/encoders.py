"""ImageReward's two encoders: an image to its tokens, once; a caption and an image's tokens to a reward."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array, Pixels, ResizedPixels, TokenIds
from plumbline_models.core.engines import Backend
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import EncoderKind, PairInput
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resample import pillow_arithmetic
from plumbline_models.networks.blip.arch import IMAGE_PX, MAX_TOKENS
from plumbline_models.networks.blip.checkpoint import BlipCheckpoint
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts, pad_tokens
from plumbline_models.networks.fingerprint import fingerprint

if TYPE_CHECKING:
    from plumbline_models.networks.blip.image_module import BlipImage
    from plumbline_models.networks.blip.reward_module import BlipReward

ImageTokens: TypeAlias = NDArray[np.floating[Any]]
"""`[T, V]` float32 or float16: all tokens of one image."""
ARCH: Final = "image-reward"
LENGTH_STEP: Final = 8
"""Texts are padded to a multiple of this."""
TYPICAL_TOKENS: Final = 16
_PACKAGES: Final = ("networks.blip", "networks.clip.state_dicts", "weights")
_MAX_IMAGES: Final = 16
_MAX_PAIRS: Final = 32
_PREPROCESS: Final = PreprocessSpec(size=(IMAGE_PX, IMAGE_PX))


class BlipImageEncoder(CompiledEncoder[BlipCheckpoint, ResizedPixels, ImageTokens]):
    """Encodes images for `BlipPairEncoder`.

    Args:
        checkpoint: Whose image tower.
        backend: Compiles it.
    """

    kind: EncoderKind = "image"

    def __init__(self, checkpoint: BlipCheckpoint, backend: Backend) -> None:
        super().__init__(checkpoint, lambda: backend)

    @property
    def key(self) -> str:
        """The checkpoint's label, then `/image`."""
        return f"{self.checkpoint.label}/image"

    @property
    def max_batch_cost(self) -> float:
        """All images cost the same."""
        return float(_MAX_IMAGES)

    def bucket(self, preprocessed: ResizedPixels) -> Hashable:
        """One for all."""
        return preprocessed.shape

    def cost(self, preprocessed: ResizedPixels) -> float:
        """One each."""
        del preprocessed
        return 1.0

    def _max_inputs(self) -> int:
        return _MAX_IMAGES

    def _preprocess(self, raw: Pixels) -> ResizedPixels:
        return preprocess_pixels(raw, _PREPROCESS)

    def _usual_input(self) -> ResizedPixels:
        return np.zeros((IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)

    def _graph(self) -> Graph:
        checkpoint, arch = self.checkpoint, self.checkpoint.arch
        batch = Dim("batch", 1, 4, _MAX_IMAGES)
        facts = repr((arch, checkpoint.digest))
        return Graph(
            name="blip_image",
            inputs=(TensorSpec("pixels", "uint8", (batch, IMAGE_PX, IMAGE_PX, 3)),),
            outputs=("image_tokens",),
            fingerprint=fingerprint("blip_image", facts, packages=_PACKAGES),
            build=partial(_build_image, checkpoint),
            output_shapes=((batch, arch.num_image_tokens, arch.image_width),),
        )

    def _collate(self, part: Sequence[ResizedPixels]) -> Mapping[str, Array]:
        return {"pixels": np.stack(part)}

    def _read(self, preprocessed: ResizedPixels, outputs: Mapping[str, Array]) -> ImageTokens:
        del preprocessed
        return outputs["image_tokens"].astype(self._stored_dtype)

    def _facts(self) -> NetworkFacts:
        notes = {"pixels": f"{IMAGE_PX}x{IMAGE_PX}, shortest, bicubic", "resize": pillow_arithmetic()}
        checkpoint = self.checkpoint
        return NetworkFacts(arch=ARCH, sha256=checkpoint.digest, dim=checkpoint.arch.image_width, notes=notes)


@dataclass(frozen=True, slots=True)
class PreprocessedPair:
    """A caption's ids, and the image that it is scored against."""

    image_tokens: ImageTokens
    token_ids: TokenIds
    """`[L]`, both ends included."""


class BlipPairEncoder(CompiledEncoder[BlipCheckpoint, PreprocessedPair, float]):
    """Rewards of captions and images; pairs of any lengths share a batch, padded to the longest.

    Args:
        checkpoint: Whose text encoder and head.
        backend: Compiles them.
    """

    kind: EncoderKind = "pair"

    def __init__(self, checkpoint: BlipCheckpoint, backend: Backend) -> None:
        super().__init__(checkpoint, lambda: backend)

    @property
    def key(self) -> str:
        """The checkpoint's label, then `/pair`."""
        return f"{self.checkpoint.label}/pair"

    @property
    def max_batch_cost(self) -> float:
        """Pairs of typical length."""
        return float(_MAX_PAIRS)

    def cuts(self, text: str) -> bool:
        """Whether the end of a text is left out; needs no weights."""
        return self.checkpoint.words.cuts(text, MAX_TOKENS)

    def load_preprocessing(self) -> None:
        """Read the vocabulary.

        Raises:
            CheckpointError: It cannot be had.
        """
        _ = self.checkpoint.words

    def bucket(self, preprocessed: PreprocessedPair) -> Hashable:
        """One for all: the image's part is most of the work, and is the same for each."""
        del preprocessed
        return 0

    def cost(self, preprocessed: PreprocessedPair) -> float:
        """The keys and values of the image are half of a usual pair; the rest grows with the text."""
        return max(1.0, (1 + _padded(len(preprocessed.token_ids)) / TYPICAL_TOKENS) / 2)

    def _max_inputs(self) -> int:
        return _MAX_PAIRS

    def _preprocess(self, raw: PairInput) -> PreprocessedPair:
        return PreprocessedPair(raw.image_encoding, self.checkpoint.words.encode(raw.caption, MAX_TOKENS))

    def _usual_input(self) -> PreprocessedPair:
        arch = self.checkpoint.arch
        tokens = np.zeros((arch.num_image_tokens, arch.image_width), dtype=np.float32)
        return self._preprocess(PairInput("a photo of a red cup on a table", tokens))

    def _graph(self) -> Graph:
        checkpoint, arch = self.checkpoint, self.checkpoint.arch
        batch = Dim("batch", 1, 8, _MAX_PAIRS)
        length = Dim("length", LENGTH_STEP, TYPICAL_TOKENS, _padded(MAX_TOKENS))
        facts = repr((arch, checkpoint.digest))
        return Graph(
            name="blip_reward",
            inputs=(
                TensorSpec("token_ids", "int64", (batch, length)),
                TensorSpec("image_tokens", "float32", (batch, arch.num_image_tokens, arch.image_width)),
            ),
            outputs=("reward",),
            fingerprint=fingerprint("blip_reward", facts, packages=_PACKAGES),
            build=partial(_build_reward, checkpoint),
            output_shapes=((batch, 1),),
            fillable=frozenset({batch.name}),
        )

    def _collate(self, part: Sequence[PreprocessedPair]) -> Mapping[str, Array]:
        length = _padded(max(len(pair.token_ids) for pair in part))
        return {
            "token_ids": pad_tokens([pair.token_ids for pair in part], length),
            "image_tokens": np.stack([pair.image_tokens for pair in part]).astype(np.float32, copy=False),
        }

    def _read(self, preprocessed: PreprocessedPair, outputs: Mapping[str, Array]) -> float:
        del preprocessed
        return float(outputs["reward"][0])

    def _facts(self) -> NetworkFacts:
        notes = {"context_length": str(MAX_TOKENS), "first_token": "[CLS]"}  # nosec B105 - no password
        checkpoint = self.checkpoint
        return NetworkFacts(ARCH, checkpoint.digest, checkpoint.arch.text_width, notes, context_length=MAX_TOKENS)


def _padded(length: int) -> int:
    return math.ceil(length / LENGTH_STEP) * LENGTH_STEP


def _build_image(checkpoint: BlipCheckpoint) -> "BlipImage":
    from plumbline_models.networks.blip.weights import build_image_graph  # noqa: PLC0415 - torch, when compiling

    return build_image_graph(checkpoint.fetch(), checkpoint.arch)


def _build_reward(checkpoint: BlipCheckpoint) -> "BlipReward":
    from plumbline_models.networks.blip.weights import build_reward_graph  # noqa: PLC0415 - torch, when compiling

    return build_reward_graph(checkpoint.fetch(), checkpoint.arch)
