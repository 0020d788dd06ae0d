"""SentencePiece tokenizers, as T5 uses them: text to token ids, closed by end-of-sequence.

Captions are plain text here. Strings that look like control tokens (`</s>`, `<pad>`, `<extra_id_0>`, `<image>`)
are cut into ordinary pieces, whereas the public VQAScore program lets them end, mask or break the prompt.
"""

from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError
from plumbline_models.text.plain_text import require_utf8


class UnigramTokenizer:
    """A SentencePiece file; thread-safe once made.

    Args:
        file: The `spiece.model` file.
        num_extra_ids: Sentinels that the vocabulary counts behind the file's own pieces.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: The file is no SentencePiece vocabulary, or has no end-of-sequence.
    """

    def __init__(self, file: Path, *, num_extra_ids: int) -> None:
        if not file.is_file():
            raise CheckpointNotFoundError(f"There is no tokenizer file {file.name}.", path=str(file))
        try:
            self._pieces = SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"The tokenizer file {file.name} is not usable.", path=str(file)) from error
        self.end_id: int = self._pieces.eos_id()
        self.num_tokens: int = self._pieces.get_piece_size() + num_extra_ids
        if self.end_id < 0:
            raise CheckpointError(f"The tokenizer file {file.name} has no end-of-sequence.", path=str(file))

    def encode(self, text: str) -> TokenIds:
        """Tokenise a text.

        Args:
            text: Any text; NFKC folding, the collapse of white space and the trimming of both ends are the file's.

        Returns:
            `[L]` int64, end-of-sequence last; an empty text gives that alone.

        Raises:
            InvalidFieldError: The text holds half of a surrogate pair.
        """
        return np.array([*self._pieces.encode(require_utf8(text)), self.end_id], dtype=np.int64)
