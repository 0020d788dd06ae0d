"""The two seams above engines: an encoder makes encodings, a scorer makes scores of encodings.

    bytes ── decode ──> image ── preprocess ──> input ── encode ──> encoding ── score ──> Score
                                 (encoder)               (encoder)              (scorer)

An encoder turns an image, a text, or both together into one encoding. Preprocessing is cheap, needs no weights and
runs on any thread; encoding runs whole batches, in the process that loaded the encoder. A scorer is arithmetic on
encodings. The batcher in between knows encoders only by this protocol.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias, runtime_checkable

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import BackendUnavailableError, PlumblineError
from plumbline_models.core.questions import Question

EncoderKind: TypeAlias = Literal["image", "text", "pair"]
Need: TypeAlias = Literal["image", "text", "references", "reference_image", "phrases", "questions"]
"""A field of an item, by its name in the API."""
Encoding: TypeAlias = Any
"""What an encoder makes of one input. Opaque outside encoder and scorer; picklable; usually an array."""
Preprocessed: TypeAlias = Any
"""What `preprocess` makes of one input: resized pixels or token ids. Opaque outside its encoder; picklable."""
OnLookup: TypeAlias = Callable[[str, bool], None]
"""Told the name of a cache, and whether it held the value that was looked up."""


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """One loaded encoder, as `GET /v1/models` shows it."""

    key: str
    kind: EncoderKind
    arch: str
    source: str
    """Where the weights come from: a tag, a hub name, a file name, or `embedded`."""
    licence: str
    sha256: str
    dim: int
    backend: str
    precision: str
    device: str
    notes: Mapping[str, str] = field(default_factory=dict)
    context_length: int | None = None
    """Tokens that a text is cut to, those around it included; None where no text is cut."""
    num_streams: int = 1
    """Batches that it encodes at a time, each for a caller in a thread of its own."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an encoder's weights come from, as known without loading them."""

    source: str
    """A tag, a hub name, a file name, or `embedded`."""
    licence: str
    is_present: bool
    """Whether they are on this machine already."""


@dataclass(frozen=True, slots=True)
class PairInput:
    """What a pair encoder preprocesses: the caption, and what its image encoder made of the image."""

    caption: str
    image_encoding: Encoding
    template: Hashable | None = None
    """How the caption is put, where the scorer says so; None: as the encoder puts it. Opaque outside of the two."""


@runtime_checkable
class Encoder(Protocol):
    """Turns images, texts or pairs into encodings, a batch at a time."""

    @property
    def key(self) -> str:
        """Names the encoder in metrics and between processes, for example `mini-clip/image`."""
        ...

    @property
    def kind(self) -> EncoderKind:
        """What `preprocess` takes: `Pixels` for `image`, `str` for `text`, `PairInput` for `pair`."""
        ...

    @property
    def max_batch_cost(self) -> float:
        """The most cost that one batch may carry; a single dearer input still goes alone."""
        ...

    def preprocess(self, raw: Pixels | str | PairInput) -> Preprocessed:
        """Resize an image or tokenise a text; needs no weights; thread-safe.

        Raises:
            RequestError: This input cannot be encoded (too small, say); its neighbours can.
        """
        ...

    def load_preprocessing(self) -> None:
        """Fetch and read what `preprocess` needs, such as a tokenizer; no weights. Idempotent; blocks."""

    def bucket(self, preprocessed: Preprocessed) -> Hashable:
        """Only inputs of one bucket share a batch."""

    def cost(self, preprocessed: Preprocessed) -> float:
        """What the input adds to a batch, in units of a typical input; at least a small positive number."""
        ...

    def origin(self) -> Origin:
        """Where the weights come from; loads and fetches nothing."""
        ...

    def load(self) -> None:
        """Load weights, compile or fetch the engine, and run a first batch. Idempotent; blocks."""

    def info(self) -> EncoderInfo:
        """What was loaded.

        Raises:
            SetupError: Before `load`.
        """
        ...

    def encode(self, batch: Sequence[Preprocessed]) -> Sequence[Encoding | PlumblineError]:
        """Encode inputs of one bucket; called from at most `info().num_streams` threads at a time.

        Returns:
            An encoding or an error for each input, in order.

        Raises:
            EngineError: The batch as a whole could not be run.
        """
        ...


@dataclass(frozen=True, slots=True)
class ScorerInfo:
    """What a scorer answers, for `GET /v1/scorers`."""

    name: str
    summary: str
    needs: frozenset[Need]
    low: float | None
    """Lowest possible value; None where it is unbounded."""
    high: float | None
    higher_is_better: bool
    source: str
    """The paper, as an arXiv identifier; empty where there is none."""
    has_embedded_weights: bool = False
    """Whether the package holds weights for it: then it is built without a configuration."""


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's answer for one item."""

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the answer, JSON-ready, for example `cosine`."""
    logit: float | None = None
    """What a softmax over the images of one text makes probabilities of being preferred of; None where the scorer has
    none. No field of the answer."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Encodings of one scorer's encoders; entry i of each belongs to item i. None where it has no such encoder."""

    images: Sequence[Encoding] | None = None
    captions: Sequence[Encoding] | None = None
    pairs: Sequence[Encoding] | None = None
    """Where the scorer needs questions: for each item a list of encodings, one for each of its questions."""
    questions: Sequence[Sequence[Question]] | None = None
    texts: Sequence[str] | None = None
    reference_images: Sequence[Encoding] | None = None
    references: Sequence[Sequence[Encoding]] | None = None
    """At least one for each item, as of `phrases`; in the order of `reference_texts`."""
    phrases: Sequence[Sequence[Encoding]] | None = None
    reference_texts: Sequence[Sequence[str]] | None = None
    phrase_texts: Sequence[Sequence[str]] | None = None


class SharedEncoders(Protocol):
    """Keeps one encoder per key, so that scorers that name the same one share it."""

    def take(self, encoder: Encoder) -> Encoder:
        """Return the encoder that is already kept under this key, or keep this one."""
        ...


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a scorer is built with: who compiles its encoders, and which it may share."""

    backend: Backend
    registry: SharedEncoders
    reference: Backend | None = None
    """The same backend at fp32, where `backend` is faster and less exact."""
    open_torch: Callable[[], Backend] | None = None
    """Opens torch, where `backend` is another, for networks that only torch runs."""
    max_caption_bytes: int = 64 * 2**20
    """What each encoder may keep of captions between batches."""
    on_lookup: OnLookup | None = None
    """Told of each look-up in what encoders keep of captions."""

    def open_eager(self) -> Backend:
        """What runs networks that no compiler here takes: torch.

        Raises:
            BackendUnavailableError: Neither `backend` is torch nor can it be opened.
        """
        if self.backend.name == "torch":
            return self.backend
        if self.open_torch is None:
            raise BackendUnavailableError("This network runs on the torch backend only.", backend=self.backend.name)
        return self.open_torch()

    @property
    def exact(self) -> Backend:
        """For graphs whose results mean nothing at less than fp32."""
        return self.reference or self.backend


class Scorer(Protocol):
    """Makes scores of encodings. One file in `scorers/`, one line in its tuple."""

    info: ClassVar[ScorerInfo]
    conventions: Mapping[str, str]
    """How the value is made, as configured, by setting: `scale`, `epsilon`, `template` and the like."""
    relative_cost: float
    """Orders scorers for `/v1/filter`, cheapest first: GFLOP per item, roughly."""

    @property
    def image(self) -> Encoder | None:
        """Encodes images; none where the scorer reads none."""
        ...

    @property
    def text(self) -> Encoder | None:
        """Encodes texts by themselves."""
        ...

    @property
    def pair(self) -> Encoder | None:
        """Encodes a caption together with an image's encoding."""
        ...

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section.
            context: What encoders are built with, and where they are shared.

        Raises:
            ConfigError: The section does not fit.
        """
        ...

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each item; pure arithmetic on numpy, no input or output."""
        ...


@runtime_checkable
class AsksQuestions(Protocol):
    """A scorer of an item's questions that says how its pair encoder reads them."""

    template: Hashable
    """As `PairInput` has it."""
