"""CLIP's two encoders: images and texts to unit-norm embeddings in one space.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv:2103.00020.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Array, Pixels, ResizedPixels, TokenIds
from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import Backend, EncoderKind, PairInput
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resizing import pillow_arithmetic
from plumbline_models.networks.clip.flops import image_gflop, text_gflop
from plumbline_models.networks.clip.graph import TYPICAL_TOKENS, clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.tokens import open_tokens
from plumbline_models.networks.compiled_encoder import ClipEncoder

LENGTH_STEP: Final = 8
"""Texts are padded to a multiple of this, so that engines meet few shapes and little padding is computed."""


class ClipImageEncoder(ClipEncoder[ResizedPixels]):
    """Images to embeddings."""

    kind: EncoderKind = "image"
    input_name = "pixels"
    output_name = "image_embedding"

    def __init__(self, spec: ClipSpec, backend: Backend) -> None:
        super().__init__(spec, backend)
        self._fit = PreprocessSpec.from_config(spec.arch.preprocess_config)

    @property
    def gflop(self) -> float:
        """Of one image."""
        return image_gflop(self.spec.arch)

    def preprocess(self, raw: Pixels | str | PairInput) -> ResizedPixels:
        """Resize and crop as the encoder was trained.

        Raises:
            ImageError: The image cannot be resized so.
            InvalidFieldError: It is no image.
        """
        if not isinstance(raw, np.ndarray):
            raise InvalidFieldError("This encoder takes images.", kind=type(raw).__name__)
        return preprocess_pixels(raw, self._fit)

    def bucket(self, preprocessed: ResizedPixels) -> Hashable:
        """One for all: fitted images have one size."""
        return preprocessed.shape

    def cost(self, preprocessed: ResizedPixels) -> float:
        """One each."""
        del preprocessed
        return 1.0

    def _graph(self) -> Graph:
        return clip_image_graph(self.spec)

    def _stack(self, batch: Sequence[ResizedPixels]) -> Array:
        return np.stack(batch)

    def _sample(self) -> ResizedPixels:
        return np.zeros((*self._fit.size, 3), dtype=np.uint8)

    def _notes(self) -> Mapping[str, str]:
        height, width = self._fit.size
        pixels = f"{height}x{width}, {self._fit.mode}, {self._fit.interpolation}"
        return {"pixels": pixels, "resize": pillow_arithmetic()}


class ClipTextEncoder(ClipEncoder[TokenIds]):
    """Texts to embeddings; a text longer than the context is cut, as the published programs do."""

    kind: EncoderKind = "text"
    input_name = "token_ids"
    output_name = "text_embedding"

    def __init__(self, spec: ClipSpec, backend: Backend) -> None:
        super().__init__(spec, backend)
        self._tokens = open_tokens(spec.arch)

    @property
    def gflop(self) -> float:
        """Of one text of usual length."""
        return text_gflop(self.spec.arch, TYPICAL_TOKENS)

    def preprocess(self, raw: Pixels | str | PairInput) -> TokenIds:
        """Tokenise.

        Raises:
            InvalidFieldError: It is no text.
        """
        if not isinstance(raw, str):
            raise InvalidFieldError("This encoder takes texts.", kind=type(raw).__name__)
        return self._tokens.encode(raw)

    def cuts(self, text: str) -> bool:
        """Whether the end of a text is left out; raises as `preprocess` does."""
        return self._tokens.cuts(text)

    def bucket(self, preprocessed: TokenIds) -> Hashable:
        """The length that the text is padded to."""
        return self._padded(len(preprocessed))

    def cost(self, preprocessed: TokenIds) -> float:
        """By padded length, at least that of a usual text."""
        return max(1.0, self._padded(len(preprocessed)) / TYPICAL_TOKENS)

    def _graph(self) -> Graph:
        return clip_text_graph(self.spec)

    def _stack(self, batch: Sequence[TokenIds]) -> Array:
        padded = np.zeros((len(batch), self._padded(max(len(ids) for ids in batch))), dtype=np.int64)
        for row, ids in zip(padded, batch, strict=True):
            row[: len(ids)] = ids
        return padded

    def _padded(self, length: int) -> int:
        arch = self.spec.arch
        if not arch.has_clip_text:
            return arch.context_length
        return min(math.ceil(length / LENGTH_STEP) * LENGTH_STEP, arch.context_length)

    def _sample(self) -> TokenIds:
        return self.preprocess("a photo of a red cup on a table")

    def _notes(self) -> Mapping[str, str]:
        return {"context_length": str(self.spec.arch.context_length)}
