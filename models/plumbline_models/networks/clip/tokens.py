"""Texts to token ids, with whichever tokenizer an architecture names."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import BackendUnavailableError, CheckpointNotFoundError, ConfigError
from plumbline_models.networks.clip.archs import Arch
from plumbline_models.networks.clip.byte_pairs import END_OF_TEXT, START_OF_TEXT
from plumbline_models.networks.clip.cleaning import lower_letters, squeeze
from plumbline_models.networks.clip.siglip_arch import CLEANING
from plumbline_models.networks.clip.tokenizer import ClipTokenizer, encode_chunk
from plumbline_models.text.plain_text import require_utf8
from plumbline_models.weights.folders import read_json, refuse_own_code

_AS_USUAL: Final = (("clean", "lower"), ("reduction_mask", ""))
_CLIPS_FRAME: Final = 3  # begin, end and class
_CLEANED: Final[Mapping[Any, Callable[[str], str]]] = {"none": str, "lower": lower_letters}
"""What becomes of a text before its tokenizer, by what the architecture says; else it is open_clip's way."""


class Tokens(Protocol):
    """Makes token ids of a text; needs no weights; thread-safe."""

    def encode(self, text: str) -> TokenIds:
        """`[L]`, L up to the context length."""
        ...

    def cuts(self, text: str) -> bool:
        """Whether a text is longer than the context, so that `encode` leaves its end out."""
        ...


def is_cut(encoder: object, text: str) -> bool:
    """Whether an encoder leaves out the end of a text.

    Args:
        encoder: Any; one without `cuts`, as `Tokens` has it, leaves nothing out.
        text: As sent.
    """
    cuts: Callable[[str], bool] | None = getattr(encoder, "cuts", None)
    return cuts is not None and cuts(text)


class ClipTokens:
    """CLIP's own byte pairs."""

    def __init__(self, context_length: int) -> None:
        self._tokenizer = ClipTokenizer(context_length)

    def encode(self, text: str) -> TokenIds:
        """`[L]`, without padding."""
        return self._tokenizer.encode(text).ids

    def cuts(self, text: str) -> bool:
        """As `Tokens.cuts`."""
        return self._tokenizer.cuts(text)


class TransformersTokens:
    """CLIP's own byte pairs of a text that is cleaned as by the transformers library: nothing in it is repaired.

    Full-width letters and punctuation, HTML entities, control characters and mojibake have other ids than with
    open_clip's cleaning. Strings that look like control tokens are plain text, in both.
    """

    def __init__(self, context_length: int) -> None:
        self._room = context_length - 2

    def encode(self, text: str) -> TokenIds:
        """`[L]`, without padding."""
        ids = self._ids(text, self._room)
        return np.array([START_OF_TEXT, *ids[: self._room], END_OF_TEXT], dtype=np.int64)

    def cuts(self, text: str) -> bool:
        """As `Tokens.cuts`."""
        return len(self._ids(text, self._room + 1)) > self._room

    def _ids(self, text: str, most: int) -> list[int]:
        ids: list[int] = []
        require_utf8(text)
        for chunk in squeeze(text).split(" "):
            if len(ids) >= most:
                break
            ids += encode_chunk(chunk, most - len(ids))
        return ids


class HubTokens:
    """A Hugging Face tokenizer as open_clip calls it, for architectures whose text tower is not CLIP's.

    It is fetched when first used, by open_clip and transformers, which bring torch with them. Texts of a SigLIP in the
    transformers library's layout are cleaned as that library's processor does: nothing in them is repaired. Strings
    that look like control tokens are plain text.

    Args:
        arch: Names the tokenizer, and how open_clip is to call it.
    """

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._call: Any = None
        self._lock = threading.Lock()  # its padding and truncation are state

    def encode(self, text: str) -> TokenIds:
        """`[context length]`, padded as the text tower was trained.

        Raises:
            CheckpointNotFoundError: The tokenizer is neither on this machine nor to be had from the hub.
            BackendUnavailableError: transformers is not installed.
        """
        with self._lock:
            return np.asarray(self._open()(text)[0], dtype=np.int64)

    def cuts(self, text: str) -> bool:
        """As `Tokens.cuts`; raises as `encode` does."""
        with self._lock:
            call = self._open()
            frames_itself = call.tokenizer_mode == "clips"  # open_clip adds three tokens of its own there
            ids = call.tokenizer(call.clean_fn(text), add_special_tokens=not frames_itself, verbose=False)["input_ids"]
            return len(ids) + (_CLIPS_FRAME if frames_itself else 0) > self._arch.context_length

    def _open(self) -> Any:
        self._call = self._call or _open_hub(self._arch)
        return self._call


def open_tokens(arch: Arch) -> Tokens:
    """The tokenizer of an architecture.

    Raises:
        ConfigError: It wants CLIP's own byte pairs of texts that are cleaned or shortened in another way than CLIP's.
    """
    if arch.text.get("hf_tokenizer_name"):
        return HubTokens(arch)
    asked = arch.text.get("tokenizer_kwargs") or {}
    if unread := [key for key, value in asked.items() if (key, value) not in _AS_USUAL]:
        raise ConfigError(
            f"The tokenizer of {arch.name} is asked for {unread[0]}, which CLIP's own does not have here."
        )
    return (TransformersTokens if arch.cleans_as_transformers else ClipTokens)(arch.context_length)


def _open_hub(arch: Arch) -> Any:
    from open_clip.tokenizer import HFTokenizer  # noqa: PLC0415 - torch, which CLIP's own tokenizer never needs

    text, name = arch.text, str(arch.text["hf_tokenizer_name"])
    source = name
    if arch.home is not None and (file := arch.home / "tokenizer_config.json").is_file():
        refuse_own_code(read_json(file), file)
        source = str(arch.home)
    try:
        call: Any = HFTokenizer(
            source,
            context_length=arch.context_length,
            tokenizer_mode=text.get("tokenizer_mode"),
            **{**(text.get("tokenizer_kwargs") or {}), "trust_remote_code": False},
        )
    except ImportError as error:
        raise BackendUnavailableError(
            f"{arch.name} needs a tokenizer of transformers. Install it with: pip install transformers.", arch=arch.name
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointNotFoundError(
            f"The tokenizer {Path(source).name} of {arch.name} is not to be had.", source=source
        ) from error
    call.tokenizer.split_special_tokens = True  # what looks like a control token is text
    call.clean_fn = _CLEANED.get(text.get(CLEANING), call.clean_fn)
    return call
