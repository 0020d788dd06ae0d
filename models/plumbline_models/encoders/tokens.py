"""Texts to token ids, with whichever tokenizer an architecture names."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from plumbline_models.checkpoints.archs import Arch
from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import BackendUnavailableError, CheckpointNotFoundError
from plumbline_models.text.clip_bpe import ClipTokenizer


class Tokens(Protocol):
    """Makes token ids of a text; needs no weights; thread-safe."""

    def encode(self, text: str) -> TokenIds:
        """`[L]`, L up to the context length."""
        ...


class ClipTokens:
    """CLIP's own byte pairs."""

    def __init__(self, context_length: int) -> None:
        self._tokenizer = ClipTokenizer(context_length)

    def encode(self, text: str) -> TokenIds:
        """`[L]`, without padding."""
        return self._tokenizer.encode(text).ids


class HubTokens:
    """A Hugging Face tokenizer as open_clip calls it, for architectures whose text tower is not CLIP's.

    It is fetched when first used, by open_clip and transformers, which bring torch with them.

    Args:
        arch: Names the tokenizer, and how open_clip is to call it.
    """

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._call: Callable[[str], Any] | None = None
        self._lock = threading.Lock()  # its padding and truncation are state

    def encode(self, text: str) -> TokenIds:
        """`[context length]`, padded as the text tower was trained.

        Raises:
            CheckpointNotFoundError: The tokenizer is neither on this machine nor to be had from the hub.
            BackendUnavailableError: transformers is not installed.
        """
        with self._lock:
            call = self._call = self._call or _open_hub(self._arch)
            return np.asarray(call(text)[0], dtype=np.int64)


def open_tokens(arch: Arch) -> Tokens:
    """The tokenizer of an architecture."""
    return HubTokens(arch) if arch.text.get("hf_tokenizer_name") else ClipTokens(arch.context_length)


def _open_hub(arch: Arch) -> Callable[[str], Any]:
    from open_clip.tokenizer import HFTokenizer  # noqa: PLC0415 - torch, which CLIP's own tokenizer never needs

    text, name = arch.text, str(arch.text["hf_tokenizer_name"])
    has_files = arch.home is not None and (arch.home / "tokenizer_config.json").is_file()
    source = str(arch.home) if has_files else name
    try:
        call: Callable[[str], Any] = HFTokenizer(
            source,
            context_length=arch.context_length,
            tokenizer_mode=text.get("tokenizer_mode"),
            **(text.get("tokenizer_kwargs") or {}),
        )
    except ImportError as error:
        raise BackendUnavailableError(
            f"{arch.name} needs a tokenizer of transformers. Install it with: pip install transformers.", arch=arch.name
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointNotFoundError(
            f"The tokenizer {Path(source).name} of {arch.name} is not to be had.", source=source
        ) from error
    return call
