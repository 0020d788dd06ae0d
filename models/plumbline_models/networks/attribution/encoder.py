"""What each token of a caption adds to its cosine with an image: the pair half of F-CLIPScore.

Nam et al., arXiv:2412.18404. Two engines give the same numbers. The first runs text tower and derivative for the pairs
of a batch, each distinct caption forward once. The second turns a caption into a matrix, of which one product with
image embeddings attributes every pair. A caption goes to the second where it meets more images in one batch than it
has tokens: there one tangent a token costs less than one gradient a pair. Matrices are kept for the next such batch.
The choice depends on the batch alone, never on earlier requests, so that equal requests get equal bits.
"""

import hashlib
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from plumbline_models.core.arrays import Array, TokenIds
from plumbline_models.core.engines import Backend, Engine, EngineInfo
from plumbline_models.core.errors import ConfigError, InvalidFieldError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EncoderKind, PairInput
from plumbline_models.networks.attribution.graph import (
    MAX_CAPTIONS,
    MAX_PAIRS,
    AttributionSpec,
    attribution_graph,
    vectors_graph,
)
from plumbline_models.networks.attribution.jacobian_cache import CaptionMatrices, CaptionMatrix
from plumbline_models.networks.attribution.pairs import (
    CaptionAttribution,
    PreprocessedCaption,
    by_caption,
    cosines_of,
    read_attribution,
)
from plumbline_models.networks.clip.encoders import clip_facts
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.tokenizer import ClipTokenizer
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts, cut, pad_tokens

TEMPLATE: Final = "A photo depicts "
NUM_BLOCKS: Final = 3
LENGTH_STEP: Final = 8
"""Captions are padded to a multiple of this, so that engines meet few shapes."""
_MAX_BATCH: Final = 64.0


@dataclass(frozen=True, slots=True)
class AttributionEngine:
    """Both engines as one: pairs go to the first, captions without images to the second."""

    pairs: Engine
    captions: Engine

    @property
    def info(self) -> EngineInfo:
        """Of the first; the second is compiled alike."""
        return self.pairs.info

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """See `Engine.run`."""
        return (self.pairs if "image_embeddings" in inputs else self.captions).run(inputs)


class AttributionEncoder(CompiledEncoder[ClipSpec, PreprocessedCaption, CaptionAttribution]):
    """Attributes pairs of captions and image embeddings.

    Args:
        spec: Whose text tower; the images must be embedded by the same CLIP.
        backend: Compiles the graphs; at fp32 unless lower precision is wanted.
        template: What stands before every caption; ends in a space.
        num_blocks: How many of the last blocks are averaged.
        matrices: Where captions that meet many images are kept.

    Raises:
        ConfigError: The text tower does not show its attention, or the numbers do not fit it.
    """

    kind: EncoderKind = "pair"

    def __init__(
        self,
        spec: ClipSpec,
        backend: Backend,
        *,
        template: str,
        num_blocks: int,
        matrices: CaptionMatrices | None = None,
    ) -> None:
        if not spec.arch.has_clip_text:
            raise ConfigError(
                f"fclipscore needs CLIP's own text transformer; {spec.arch.name} has another.", arch=spec.arch.name
            )
        available = int(spec.arch.text.get("layers", 12))
        if not 1 <= num_blocks <= available:
            raise ConfigError(f"layers must be 1 to {available}, not {num_blocks}.", num_blocks=num_blocks)
        super().__init__(spec, lambda: backend)
        self._template = template
        self._tokenizer = ClipTokenizer(spec.arch.context_length)
        # A template that does not end in a space may grow together with the caption: then only start-of-text is shared.
        shared = template if template.endswith(" ") else ""
        prefix = self._tokenizer.encode(shared).ids[:-1]
        self._prefix_ids = tuple(int(token) for token in prefix)
        self._graphs = AttributionSpec(spec, self._prefix_ids, num_blocks)
        self._matrices = CaptionMatrices() if matrices is None else matrices

    @property
    def key(self) -> str:
        """Such as `mini-clip/attribution`; a digest follows where the settings are not the usual."""
        facts = self._template, self._graphs.num_blocks
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
        return f"{self.checkpoint.name}/attribution{'' if facts == (TEMPLATE, NUM_BLOCKS) else f'+{digest}'}"

    @property
    def max_batch_cost(self) -> float:
        """Pairs."""
        return _MAX_BATCH

    def bucket(self, preprocessed: PreprocessedCaption) -> Hashable:
        """The length that the caption is padded to."""
        return self._padded(len(preprocessed.tail_ids))

    def cost(self, preprocessed: PreprocessedCaption) -> float:
        """One each: the image's part is small, and captions repeat."""
        del preprocessed
        return 1.0

    def _max_inputs(self) -> int:
        return MAX_PAIRS

    def _preprocess(self, raw: PairInput) -> PreprocessedCaption:
        """Tokenise the caption behind its template."""
        tokenised = self._tokenizer.encode(self._template + raw.caption)
        num_prefix = len(self._prefix_ids)
        if tuple(tokenised.ids[:num_prefix].tolist()) != self._prefix_ids:
            raise InvalidFieldError("The caption changes how the template before it is read.")
        return PreprocessedCaption(tokenised, tokenised.ids[num_prefix:], raw.image_encoding)

    def _usual_input(self) -> PreprocessedCaption:
        return self._with_blank("a photo of a red cup")

    def _with_blank(self, caption: str) -> PreprocessedCaption:
        return self._preprocess(PairInput(caption, np.zeros(self.checkpoint.arch.embed_dim, dtype=np.float32)))

    def _graph(self) -> Graph:
        return attribution_graph(self._graphs)

    def _compile(self, backend: Backend) -> Engine:
        pairs = backend.compile(self._graph())
        return AttributionEngine(pairs, backend.compile(vectors_graph(self._graphs)))

    def _warm_up(self, engine: Engine) -> Iterator[ArrayLike]:
        yield from engine.run(self._collate([self._usual_input()] * 2)).values()
        yield self._make_matrix(engine, self._with_blank("a cup").tail_ids).vectors

    def _parts(self, batch: Sequence[PreprocessedCaption]) -> Iterable[Sequence[int]]:
        by_gradient: list[int] = []
        for indices in by_caption(batch):
            if self._has_many_images([batch[index] for index in indices]):
                yield indices
            else:
                by_gradient += indices
        for part in cut(sorted(by_gradient), self._max_inputs()):
            yield from _halved(part, batch)

    def _run(self, engine: Engine, part: Sequence[PreprocessedCaption]) -> Sequence[CaptionAttribution]:
        return self._by_matrix(engine, part) if self._has_many_images(part) else super()._run(engine, part)

    @staticmethod
    def _has_many_images(part: Sequence[PreprocessedCaption]) -> bool:
        """Whether one caption meets more images than it has tokens."""
        return len(part) > len(part[0].tail_ids) and len({pair.caption for pair in part}) == 1

    def _collate(self, part: Sequence[PreprocessedCaption]) -> Mapping[str, Array]:
        captions = {pair.caption: pair.tail_ids for pair in part}
        index_of = {caption: index for index, caption in enumerate(captions)}
        return {
            "token_ids": self._pad(list(captions.values())),
            "caption_indices": np.array([index_of[pair.caption] for pair in part], dtype=np.int64),
            "image_embeddings": np.stack([pair.image_embedding for pair in part]).astype(np.float32, copy=False),
        }

    def _read(self, preprocessed: PreprocessedCaption, outputs: Mapping[str, Array]) -> CaptionAttribution:
        image = np.asarray(preprocessed.image_embedding, dtype=np.float32)
        cosine = float(cosines_of(outputs["pair_caption"], image))
        return read_attribution(preprocessed, outputs["pair_attribution"], cosine=cosine)

    def _numbers(self, encoding: CaptionAttribution) -> Iterable[Any]:
        return encoding.cosine, encoding.tokens

    def _by_matrix(self, engine: Engine, part: Sequence[PreprocessedCaption]) -> Sequence[CaptionAttribution]:
        """Attribute one caption's pairs in one product."""
        matrix = self._matrices.get(part[0].caption)
        if matrix is None:
            matrix = self._make_matrix(engine, part[0].tail_ids)
            self._matrices.put(part[0].caption, matrix)
        cosines, tokens = matrix.read(np.stack([pair.image_embedding for pair in part]))
        return [read_attribution(pair, tokens[i], cosine=float(cosines[i])) for i, pair in enumerate(part)]

    def _make_matrix(self, engine: Engine, ids: TokenIds) -> CaptionMatrix:
        outputs = engine.run({"token_ids": self._pad([ids])})
        vectors = outputs["caption_vectors"][0, : len(self._prefix_ids) + len(ids)]
        joined = np.concatenate([outputs["caption_embedding"], vectors])
        return CaptionMatrix(joined.astype(np.float32, copy=False))

    def _pad(self, captions: Sequence[TokenIds]) -> TokenIds:
        return pad_tokens(captions, self._padded(max(map(len, captions))))

    def _padded(self, length: int) -> int:
        room = self.checkpoint.arch.context_length - len(self._prefix_ids)
        return min(math.ceil(length / LENGTH_STEP) * LENGTH_STEP, room)

    def _facts(self) -> NetworkFacts:
        context = self.checkpoint.arch.context_length
        notes = {"template": self._template, "layers": str(self._graphs.num_blocks), "context_length": str(context)}
        return clip_facts(self.checkpoint, notes, context_length=context)


def _halved(indices: Sequence[int], batch: Sequence[PreprocessedCaption]) -> Iterator[Sequence[int]]:
    """Parts of no more distinct captions than the graph takes."""
    if len({batch[index].caption for index in indices}) <= MAX_CAPTIONS:
        yield indices
        return
    middle = len(indices) // 2
    yield from _halved(indices[:middle], batch)
    yield from _halved(indices[middle:], batch)
