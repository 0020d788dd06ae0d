"""The tokenizers of causal networks, with their control tokens set apart: byte-level BPE, and SentencePiece."""

import json
from pathlib import Path
from typing import Any, Final

from sentencepiece import SentencePieceProcessor

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from plumbline_models.text.plain_text import require_utf8

_LEFT_TO_US: Final = ("post_processor", "truncation", "padding")


class ByteLevelTokenizer:
    """A `tokenizer.json`; see `PlainTokenizer`.

    Args:
        file: The file, of the layout of the `tokenizers` library.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: The file is no tokenizer.
        ConfigError: The `tokenizers` library is not installed.
    """

    def __init__(self, file: Path) -> None:
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415 - comes with the extra `vlm` only
        except ImportError as error:
            raise ConfigError('This family needs more packages: pip install "plumbline-serve[vlm]".') from error
        described = _read(file)
        try:
            added = described.get("added_tokens") or []
            self._controls = {str(token["content"]): int(token["id"]) for token in added}
            self._plain = Tokenizer.from_str(
                json.dumps({**described, "added_tokens": [], **dict.fromkeys(_LEFT_TO_US)})
            )
        except Exception as error:  # the library raises bare exceptions
            raise CheckpointError(f"The tokenizer file {file.name} is not usable.", path=str(file)) from error
        self.num_tokens: int = max([self._plain.get_vocab_size() - 1, *self._controls.values()]) + 1

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; see `PlainTokenizer.encode`."""
        require_utf8(text)
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def control_id(self, name: str) -> int:
        """The id of a control token; see `PlainTokenizer.control_id`."""
        if name not in self._controls:
            raise CheckpointError(f"The tokenizer has no control token {name}.", wanted=name)
        return self._controls[name]


class SentencePieces:
    """A `tokenizer.model` file, as of LLaVA's language model; see `PlainTokenizer`.

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


def _read(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"There is no tokenizer file {file.name}.", path=str(file)) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The tokenizer file {file.name} is not usable.", path=str(file)) from error
    if not isinstance(described, dict):
        raise CheckpointError(f"The tokenizer file {file.name} is not usable.", path=str(file))
    return described
