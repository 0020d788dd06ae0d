"""What causal question-answering networks need of a tokenizer: captions as plain text, control tokens by name.

The published programs hand whole prompts to tokenizers that look for control tokens everywhere, so that a caption with
`</s>`, `<image>` or `<|im_end|>` in it changes the question. Here texts are never searched for them:
control tokens come from the prompt's own template alone, by name.
"""

from typing import Protocol

from plumbline_models.core.errors import InvalidFieldError


class PlainTokenizer(Protocol):
    """Tokenises texts; thread-safe once made."""

    num_tokens: int
    """Of the vocabulary, control tokens included."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing before and nothing behind; whatever looks like a control token is text.

        Raises:
            InvalidFieldError: The text holds half of a surrogate pair.
        """
        ...

    def control_id(self, name: str) -> int:
        """The id of a control token.

        Raises:
            CheckpointError: The vocabulary has none of that name.
        """
        ...


def require_utf8(text: str) -> bytes:
    """The text's bytes.

    Raises:
        InvalidFieldError: It holds half of a surrogate pair.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidFieldError("The text is not valid Unicode.", reason=error.reason) from error
