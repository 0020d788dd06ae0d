"""What each token of a caption adds to its cosine with an image: the pair half of F-CLIPScore.

Nam et al., arXiv:2412.18404. Two engines give the same numbers. The first runs text tower and derivative for the pairs
of a batch, each distinct caption forward once. The second turns a caption into a matrix, of which one product with
image embeddings attributes every pair. A caption goes to the second where it meets more images in one batch than it
has tokens: there one tangent a token costs less than one gradient a pair. Matrices are kept for the next such batch.
The choice depends on the batch alone, never on what was asked before, so that equal requests get equal bits.
"""

import hashlib
import math
import threading
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Array, Pixels, TokenIds
from plumbline_models.core.errors import ConfigError, EngineError, InvalidFieldError, PlumblineError, SetupError
from plumbline_models.core.protocols import Backend, EncoderInfo, EncoderKind, Engine, Origin, PairInput
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
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.tokenizer import ClipTokenizer
from plumbline_models.networks.warming import require_numbers
from plumbline_models.weights.digest import sha256_of

TEMPLATE: Final = "A photo depicts "
NUM_BLOCKS: Final = 3
LENGTH_STEP: Final = 8
"""Captions are padded to a multiple of this, so that engines meet few shapes."""
_MAX_BATCH: Final = 64.0


class AttributionEncoder:
    """Attributes pairs of captions and image embeddings.

    Args:
        spec: Whose text tower; the images must be embedded by the same CLIP.
        backend: Compiles the graphs; at fp32 unless lower precision is asked for.
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
        self._spec = spec
        self._backend = backend
        self._template = template
        self._tokenizer = ClipTokenizer(spec.arch.context_length)
        # A template that does not end in a space may grow together with the caption: then only start-of-text is shared.
        shared = template if template.endswith(" ") else ""
        prefix = self._tokenizer.encode(shared).ids[:-1]
        self._prefix_ids = tuple(int(token) for token in prefix)
        self._graphs = AttributionSpec(spec, self._prefix_ids, num_blocks)
        self._matrices = CaptionMatrices() if matrices is None else matrices
        self._pairs_engine: Engine | None = None
        self._vectors_engine: Engine | None = None
        self._info: EncoderInfo | None = None
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """Such as `mini-clip/attribution`; a digest follows where the settings are not the usual."""
        facts = repr((self._template, self._graphs.num_blocks))
        variant = "" if self._is_usual else f"+{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
        return f"{self._spec.name}/attribution{variant}"

    @property
    def max_batch_cost(self) -> float:
        """Pairs."""
        return _MAX_BATCH

    def preprocess(self, raw: Pixels | str | PairInput) -> PreprocessedCaption:
        """Tokenise the caption behind its template.

        Raises:
            InvalidFieldError: It is no pair.
        """
        if not isinstance(raw, PairInput):
            raise InvalidFieldError("This encoder takes pairs.", kind=type(raw).__name__)
        tokenised = self._tokenizer.encode(self._template + raw.caption)
        num_prefix = len(self._prefix_ids)
        if tuple(tokenised.ids[:num_prefix].tolist()) != self._prefix_ids:
            raise InvalidFieldError("The caption changes how the template before it is read.")
        return PreprocessedCaption(tokenised, tokenised.ids[num_prefix:], raw.image_encoding)

    def load_preprocessing(self) -> None:
        """Nothing: the tokenizer comes with the package."""

    def bucket(self, preprocessed: PreprocessedCaption) -> Hashable:
        """The length that the caption is padded to."""
        return self._padded(len(preprocessed.tail_ids))

    def cost(self, preprocessed: PreprocessedCaption) -> float:
        """One each: the image's part is small, and captions repeat."""
        del preprocessed
        return 1.0

    @property
    def checkpoint(self) -> ClipSpec:
        """What it reads."""
        return self._spec

    def origin(self) -> Origin:
        """As the CLIP's weights."""
        return self._spec.origin

    def load(self) -> None:
        """Compile or fetch both engines and run a pair through each.

        Raises:
            CheckpointError: The weights cannot be had or do not fit.
            EngineError: A graph does not compile or run, or gives no numbers.
        """
        with self._lock:
            if self._info is not None:
                return
            pairs_engine = self._backend.compile(attribution_graph(self._graphs))
            self._vectors_engine = self._backend.compile(vectors_graph(self._graphs))
            self._pairs_engine = pairs_engine
        blank = np.zeros(self._spec.arch.embed_dim, dtype=np.float32)
        numbers = self._run_pairs([self.preprocess(PairInput("a photo of a red cup", blank))] * 2)
        matrix = self._make_matrix(self.preprocess(PairInput("a cup", blank)).tail_ids)
        require_numbers([*numbers, matrix.rows], self, pairs_engine.info)
        self._info = self._describe(pairs_engine)

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        if self._info is None:
            raise SetupError("The encoder is not loaded yet.", encoder=self.key)
        return self._info

    def encode(self, batch: Sequence[PreprocessedCaption]) -> Sequence[CaptionAttribution | PlumblineError]:
        """Attribute pairs of one bucket.

        Raises:
            EngineError: The batch could not be run, or before `load`.
        """
        rows: dict[int, CaptionAttribution | PlumblineError] = {}
        for indices in by_caption(batch):
            if len(indices) > len(batch[indices[0]].tail_ids):
                rows.update(zip(indices, self._by_matrix([batch[i] for i in indices]), strict=True))
        by_gradient = [i for i in range(len(batch)) if i not in rows]
        for first in range(0, len(by_gradient), MAX_PAIRS):
            chosen = by_gradient[first : first + MAX_PAIRS]
            rows.update(zip(chosen, self._by_gradient([batch[i] for i in chosen]), strict=True))
        return [rows[i] for i in range(len(batch))]

    def _by_gradient(self, batch: Sequence[PreprocessedCaption]) -> list[CaptionAttribution | PlumblineError]:
        if len({pair.caption for pair in batch}) > MAX_CAPTIONS:
            middle = len(batch) // 2
            return [*self._by_gradient(batch[:middle]), *self._by_gradient(batch[middle:])]
        cosines, tokens = self._run_pairs(batch)
        return [read_attribution(pair, float(cosines[i]), tokens[i]) for i, pair in enumerate(batch)]

    def _run_pairs(self, batch: Sequence[PreprocessedCaption]) -> tuple[Array, Array]:
        """Cosines `[N]` and attributions `[N, J]`."""
        captions = list({pair.caption: pair.tail_ids for pair in batch}.items())
        row_of = {name: row for row, (name, _) in enumerate(captions)}
        images = np.stack([pair.image_embedding for pair in batch]).astype(np.float32, copy=False)
        outputs = _engine(self._pairs_engine, self.key).run(
            {
                "token_ids": self._stack([ids for _, ids in captions]),
                "caption_rows": np.array([row_of[pair.caption] for pair in batch], dtype=np.int64),
                "image_embeddings": images,
            }
        )
        return cosines_of(outputs["pair_caption"], images), outputs["pair_attribution"]

    def _by_matrix(self, pairs: Sequence[PreprocessedCaption]) -> list[CaptionAttribution | PlumblineError]:
        """Attribute one caption's pairs in one product."""
        matrix = self._matrices.get(pairs[0].caption)
        if matrix is None:
            matrix = self._make_matrix(pairs[0].tail_ids)
            self._matrices.put(pairs[0].caption, matrix)
        cosines, tokens = matrix.read(np.stack([pair.image_embedding for pair in pairs]))
        return [read_attribution(pair, float(cosines[i]), tokens[i]) for i, pair in enumerate(pairs)]

    def _make_matrix(self, ids: TokenIds) -> CaptionMatrix:
        outputs = _engine(self._vectors_engine, self.key).run({"token_ids": self._stack([ids])})
        vectors = outputs["caption_vectors"][0, : len(self._prefix_ids) + len(ids)]
        rows = np.concatenate([outputs["caption_embedding"], vectors])
        return CaptionMatrix(rows.astype(np.float32, copy=False))

    def _stack(self, captions: Sequence[TokenIds]) -> Array:
        padded = np.zeros((len(captions), self._padded(max(map(len, captions)))), dtype=np.int64)
        for row, ids in zip(padded, captions, strict=True):
            row[: len(ids)] = ids
        return padded

    def _padded(self, length: int) -> int:
        room = self._spec.arch.context_length - len(self._prefix_ids)
        return min(math.ceil(length / LENGTH_STEP) * LENGTH_STEP, room)

    @property
    def _is_usual(self) -> bool:
        return self._template == TEMPLATE and self._graphs.num_blocks == NUM_BLOCKS

    def _describe(self, engine: Engine) -> EncoderInfo:
        spec, ran = self._spec, engine.info
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
                "template": self._template,
                "layers": str(self._graphs.num_blocks),
                "context_length": str(spec.arch.context_length),
            },
            context_length=spec.arch.context_length,
            num_streams=ran.num_streams,
        )


def _engine(engine: Engine | None, key: str) -> Engine:
    if engine is None:
        raise EngineError("The encoder is not loaded yet.", encoder=key)
    return engine
