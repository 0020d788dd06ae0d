"""A text encoder that changes what another one takes or gives, and shares its engine."""

from collections.abc import Hashable, Sequence

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import Encoder, EncoderInfo, EncoderKind, Encoding, Origin, PairInput, Preprocessed
from plumbline_models.networks.clip.tokens import is_cut


class WrappedTextEncoder:
    """Does what the inner encoder does; a subclass changes some of it, and the key with it.

    Args:
        inner: A text encoder, which may serve others as well.
    """

    kind: EncoderKind = "text"

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner

    @property
    def key(self) -> str:
        """The inner encoder's."""
        return self.inner.key

    @property
    def max_batch_cost(self) -> float:
        """The inner encoder's."""
        return self.inner.max_batch_cost

    def preprocess(self, raw: Pixels | str | PairInput) -> Preprocessed:
        """Preprocess a text.

        Raises:
            InvalidFieldError: It is no text.
        """
        if not isinstance(raw, str):
            raise InvalidFieldError("This encoder takes texts.", kind=type(raw).__name__)
        return self.inner.preprocess(raw)

    def cuts(self, text: str) -> bool:
        """Whether the end of a text is left out."""
        return is_cut(self.inner, text)

    def load_preprocessing(self) -> None:
        """The inner encoder's."""
        self.inner.load_preprocessing()

    def bucket(self, preprocessed: Preprocessed) -> Hashable:
        """The inner encoder's."""
        return self.inner.bucket(preprocessed)

    def cost(self, preprocessed: Preprocessed) -> float:
        """The inner encoder's."""
        return self.inner.cost(preprocessed)

    def origin(self) -> Origin:
        """The inner encoder's."""
        return self.inner.origin()

    def load(self) -> None:
        """Load the inner encoder."""
        self.inner.load()

    def info(self) -> EncoderInfo:
        """The inner encoder's."""
        return self.inner.info()

    def encode(self, batch: Sequence[Preprocessed]) -> Sequence[Encoding | PlumblineError]:
        """Encode with the inner encoder."""
        return self.inner.encode(batch)
