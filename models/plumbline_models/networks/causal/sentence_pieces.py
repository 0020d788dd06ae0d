"""SentencePiece vocabularies as LLaVA's language model uses them."""

from pathlib import Path

from sentencepiece import SentencePieceProcessor

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError
from plumbline_models.text.plain_text import require_utf8


class SentencePieces:
    """A `tokenizer.model` file; see `PlainTokenizer`.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: The file is no SentencePiece vocabulary.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise CheckpointNotFoundError(f"There is no tokenizer file {file.name}.", path=str(file))
        try:
            self._pieces = SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"The tokenizer file {file.name} is not usable.", path=str(file)) from error
        self.num_tokens: int = self._pieces.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; see `PlainTokenizer.encode`."""
        return list(self._pieces.encode(require_utf8(text)))

    def control_id(self, name: str) -> int:
        """The id of a control token; see `PlainTokenizer.control_id`."""
        found = int(self._pieces.piece_to_id(name))
        if not self._pieces.is_control(found):
            raise CheckpointError(f"The tokenizer has no control token {name}.", wanted=name)
        return found
