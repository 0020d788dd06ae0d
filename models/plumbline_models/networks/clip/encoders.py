"""CLIP's two encoders: images and texts to unit-norm embeddings in one space.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv:2103.00020.
"""

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar, Final, TypeVar

import numpy as np

from plumbline_models.core.arrays import Array, Embedding, Pixels, TokenIds
from plumbline_models.core.engines import Backend
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EncoderKind
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resample import pillow_arithmetic
from plumbline_models.networks.clip.flops import image_gflop, text_gflop
from plumbline_models.networks.clip.graph import MAX_BATCH, TYPICAL_TOKENS, clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.pixels import TowerPixels, fit_pixels, pixel_type
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.tokens import open_tokens
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts, pad_tokens
from plumbline_models.weights.scalars import read_scalars

LENGTH_STEP: Final = 8
"""Texts are padded to a multiple of this, so that engines meet few shapes and little padding is computed."""
CPU_BATCH_GFLOP: Final = 160.0
"""Work that a CPU batch may hold: a second or two. A larger one encodes no more per second, and others wait."""
CPU_BATCH_MIN: Final = 4
PreprocessedT = TypeVar("PreprocessedT")


class ClipEncoder(CompiledEncoder[ClipSpec, PreprocessedT, Embedding]):
    """An encoder of unit-norm embeddings.

    Args:
        spec: The CLIP.
        backend: Compiles the graph.
    """

    warm_up_sizes = (1, 4)
    output_name: ClassVar[str]

    def __init__(self, spec: ClipSpec, backend: Backend) -> None:
        super().__init__(spec, lambda: backend)

    @property
    def key(self) -> str:
        """Such as `ViT-B-32-quickgelu@6af55455/image` or `mini-clip/text`."""
        return f"{self.checkpoint.name}/{self.kind}"

    @property
    def max_batch_cost(self) -> float:
        """Images, or texts of usual length; on a CPU the fewer, the larger the tower is."""
        if self._loaded is None or not self._loaded.info.device.startswith("cpu"):
            return float(MAX_BATCH)
        return float(min(MAX_BATCH, max(CPU_BATCH_MIN, CPU_BATCH_GFLOP // self.gflop)))

    @property
    @abstractmethod
    def gflop(self) -> float:
        """Work of one usual input."""

    def _max_inputs(self) -> int:
        return MAX_BATCH

    def _read(self, preprocessed: PreprocessedT, outputs: Mapping[str, Array]) -> Embedding:
        del preprocessed
        return np.asarray(outputs[self.output_name], dtype=np.float32)


class ClipImageEncoder(ClipEncoder[TowerPixels]):
    """Images to embeddings."""

    kind: EncoderKind = "image"
    output_name = "image_embedding"

    def __init__(self, spec: ClipSpec, backend: Backend) -> None:
        super().__init__(spec, backend)
        self._preprocess_spec = PreprocessSpec.from_config(spec.arch.preprocess_config)

    @property
    def gflop(self) -> float:
        """Of one image."""
        return image_gflop(self.checkpoint.arch)

    def bucket(self, preprocessed: TowerPixels) -> Hashable:
        """One for all: resized images have one size."""
        return preprocessed.shape

    def cost(self, preprocessed: TowerPixels) -> float:
        """One each."""
        del preprocessed
        return 1.0

    def _preprocess(self, raw: Pixels) -> TowerPixels:
        return fit_pixels(raw, self._preprocess_spec)

    def _usual_input(self) -> TowerPixels:
        return np.zeros((*self._preprocess_spec.size, 3), dtype=pixel_type(self._preprocess_spec))

    def _graph(self) -> Graph:
        return clip_image_graph(self.checkpoint)

    def _collate(self, part: Sequence[TowerPixels]) -> Mapping[str, Array]:
        return {"pixels": np.stack(part)}

    def _facts(self) -> NetworkFacts:
        spec = self._preprocess_spec
        height, width = spec.size
        pixels = f"{height}x{width}, {spec.mode}, {spec.interpolation}"
        if spec.mode == "letterbox":
            notes = {"pixels": f"{pixels}, floats", "resize": "antialiased" if spec.antialias else "not antialiased"}
        else:
            notes = {"pixels": pixels, "resize": pillow_arithmetic()}
        if spec.crop == "down":
            notes["crop"] = "half a pixel rounds down"
        return clip_facts(self.checkpoint, notes)


class ClipTextEncoder(ClipEncoder[TokenIds]):
    """Texts to embeddings; a text longer than the context is cut, as the published programs do."""

    kind: EncoderKind = "text"
    output_name = "text_embedding"

    def __init__(self, spec: ClipSpec, backend: Backend) -> None:
        super().__init__(spec, backend)
        self._tokens = open_tokens(spec.arch)
        self._context_length, self._has_one_length = spec.arch.context_length, not spec.arch.has_clip_text

    @property
    def gflop(self) -> float:
        """Of one text of usual length."""
        return text_gflop(self.checkpoint.arch, TYPICAL_TOKENS)

    def cuts(self, text: str) -> bool:
        """Whether the end of a text is left out; raises as `preprocess` does."""
        return self._tokens.cuts(text)

    def bucket(self, preprocessed: TokenIds) -> Hashable:
        """The length that the text is padded to."""
        return self._padded(len(preprocessed))

    def cost(self, preprocessed: TokenIds) -> float:
        """By padded length, at least that of a usual text."""
        return max(1.0, self._padded(len(preprocessed)) / TYPICAL_TOKENS)

    def _preprocess(self, raw: str) -> TokenIds:
        return self._tokens.encode(raw)

    def _usual_input(self) -> TokenIds:
        return self._preprocess("a photo of a red cup on a table")

    def _graph(self) -> Graph:
        return clip_text_graph(self.checkpoint)

    def _collate(self, part: Sequence[TokenIds]) -> Mapping[str, Array]:
        return {"token_ids": pad_tokens(part, self._padded(max(map(len, part))))}

    def _padded(self, length: int) -> int:
        if self._has_one_length:
            return self._context_length
        return min(math.ceil(length / LENGTH_STEP) * LENGTH_STEP, self._context_length)

    def _facts(self) -> NetworkFacts:
        context = self.checkpoint.arch.context_length
        notes = {"context_length": str(context)}
        if self.checkpoint.arch.has_sigmoid:
            notes |= sigmoid_notes(self.checkpoint)
        return clip_facts(self.checkpoint, notes, context_length=context)


def clip_facts(spec: ClipSpec, notes: Mapping[str, str], *, context_length: int | None = None) -> NetworkFacts:
    """The facts of a network with a CLIP's weights.

    Args:
        spec: The CLIP.
        notes: How the encoder preprocesses.
        context_length: Tokens that a text is cut to; None where the encoder takes no text.
    """
    return NetworkFacts(
        arch=spec.arch.name,
        sha256=spec.digest,
        dim=spec.arch.embed_dim,
        notes=notes,
        context_length=context_length,
    )


def sigmoid_notes(spec: ClipSpec) -> dict[str, str]:
    """Scale and bias that cosines were trained with, as `sigmoid(exp_logit_scale * cosine + logit_bias)`."""
    stored = read_scalars(spec.fetch(), {"logit_scale", "logit_bias"})
    notes = {"exp_logit_scale": f"{math.exp(stored['logit_scale']):.6g}"} if "logit_scale" in stored else {}
    return {**notes, **({"logit_bias": f"{stored['logit_bias']:.6g}"} if "logit_bias" in stored else {})}
