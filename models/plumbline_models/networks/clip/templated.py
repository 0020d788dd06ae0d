"""A text encoder that puts words of its own before every text."""

import hashlib
from dataclasses import replace

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.protocols import Encoder, EncoderInfo, PairInput, Preprocessed
from plumbline_models.networks.clip.tokens import is_cut
from plumbline_models.networks.clip.wrapped import WrappedTextEncoder


class TemplatedTextEncoder(WrappedTextEncoder):
    """Another encoder's encodings of `template + text`; its engine is shared, its encodings are not.

    Args:
        inner: A text encoder, which may serve others as well.
        template: Ends in a space where the text is to be a word of its own.
    """

    def __init__(self, inner: Encoder, template: str) -> None:
        super().__init__(inner)
        self._template = template

    @property
    def key(self) -> str:
        """The inner encoder's, and a digest of the template, since the same text has another encoding."""
        return f"{self.inner.key}+{hashlib.sha256(self._template.encode()).hexdigest()[:8]}"

    def preprocess(self, raw: Pixels | str | PairInput) -> Preprocessed:
        """Preprocess template and text as one.

        Raises:
            InvalidFieldError: It is no text.
        """
        if not isinstance(raw, str):
            raise InvalidFieldError("This encoder takes texts.", kind=type(raw).__name__)
        return self.inner.preprocess(self._template + raw)

    def cuts(self, text: str) -> bool:
        """Whether the end of a text is left out behind the template."""
        return is_cut(self.inner, self._template + text)

    def info(self) -> EncoderInfo:
        """The inner encoder's, under this key."""
        found = self.inner.info()
        return replace(found, key=self.key, notes={**found.notes, "template": self._template})
