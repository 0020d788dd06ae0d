"""Networks with a causal language part as they are published: an image tower, a language part and a tokenizer.

What differs between them, how the parts lie in files, and what is scored stand in `checkpoint` and `reward_checkpoint`.
"""

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.networks.causal.families import Wording
from plumbline_models.networks.causal.pixel_config import read_pixels
from plumbline_models.networks.causal.pixels import PixelPolicy, WholePatches
from plumbline_models.networks.causal.rules import PixelRules
from plumbline_models.networks.causal.tokenizers import ByteLevelTokenizer, SentencePieces
from plumbline_models.text.plain_text import PlainTokenizer
from plumbline_models.weights.folders import find_small_files

_LLAMA: Final[Mapping[str, int]] = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32}
"""What the library's layout leaves out where it is Llama's own."""


@dataclass(frozen=True, slots=True)
class LanguageSizes:
    """Of the language part."""

    width: int
    num_layers: int
    num_key_heads: int
    head_width: int


@dataclass(frozen=True)
class PublishedNetwork(ABC):
    """A network by name; its parts are read at first use.

    Args:
        name: A folder, or a hub name.
        tokenizer: Folder or hub name of the tokenizer; None: the network's own.

    Raises:
        ConfigError: The packages that run it are not installed.
    """

    name: str
    family: Wording
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise ConfigError(
                f'The family {self.family.name} needs more packages: pip install "plumbline-serve[vlm]".',
                family=self.family.name,
            )

    @cached_property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            CheckpointError: It describes another network.
        """

    @cached_property
    @abstractmethod
    def folder(self) -> Path:
        """Where its small files are."""

    @cached_property
    @abstractmethod
    def vision_config(self) -> Mapping[str, Any]:
        """The tower's configuration."""

    @cached_property
    @abstractmethod
    def sha256(self) -> str:
        """Hex digest of the weights."""

    @cached_property
    @abstractmethod
    def label(self) -> str:
        """Short, for keys."""

    @property
    @abstractmethod
    def origin(self) -> Origin:
        """Where the weights come from; fetches nothing."""

    @cached_property
    @abstractmethod
    def network(self) -> Any:
        """The network with its weights, as the transformers library builds it; loaded once.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
        """

    @abstractmethod
    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind; None where they are not on this machine.

        Raises:
            CheckpointError: A file is not usable.
        """

    @abstractmethod
    def check(self, seek: Seek) -> None:
        """Look at weights, tower, configurations and tokenizer, as far as headers tell.

        Raises:
            SetupError: One cannot be had, is not usable, or does not take what is overridden.
        """

    @cached_property
    def pixels(self) -> PixelPolicy:
        """How images are resized."""
        return self._pixels[0]

    @property
    def pixel_rules(self) -> PixelRules:
        """How the tower takes its pixels."""
        return self._pixels[1]

    @cached_property
    def pieces(self) -> PlainTokenizer:
        """The tokenizer."""
        file = self._pieces_file
        return SentencePieces(file) if file.name == "tokenizer.model" else ByteLevelTokenizer(file)

    @cached_property
    def num_tile_tokens(self) -> int:
        """Tokens of the prompt that stand for one tile, where tiles are squares of one size; else 0."""
        vision = self.vision_config
        if isinstance(self._pixels[0], WholePatches):
            return 0
        side = int(vision["image_size"]) // int(vision["patch_size"])
        return side**2 // int(self.config.get("scale_factor", 1)) ** 2

    @cached_property
    def sizes(self) -> LanguageSizes:
        """Sizes of the language part.

        Raises:
            CheckpointError: One is not stated.
        """
        nested = self.config.get("text_config")
        stated = {**(_LLAMA if self.family.name == "llava-1.5" else {}), **self.config}
        stated |= nested if isinstance(nested, Mapping) else {}
        try:
            width, num_heads = int(stated["hidden_size"]), int(stated["num_attention_heads"])
            return LanguageSizes(
                width=width,
                num_layers=int(stated["num_hidden_layers"]),
                num_key_heads=int(stated.get("num_key_value_heads") or num_heads),
                head_width=int(stated.get("head_dim") or width // num_heads),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The checkpoint {self.name} lacks its sizes.", reason=str(error)) from error

    @property
    def num_levels(self) -> int:
        """Of an image's tokens: those in the prompt, and those that deeper layers of the language part add."""
        return 1 + len(self.vision_config.get("deepstack_visual_indexes") or ())

    @property
    def facts(self) -> str:
        """What besides the weights decides what the network computes, for keys of what is compiled."""
        return repr((dict(self.config), dict(self.vision_config), importlib.metadata.version("transformers")))

    @property
    def _pieces_name(self) -> str:
        return "tokenizer.model" if self.family.name == "llava-1.5" else "tokenizer.json"

    @cached_property
    def _pieces_file(self) -> Path:
        folder, name = find_small_files(self.tokenizer) if self.tokenizer else self.folder, self._pieces_name
        file = next((file for file in (folder / name, folder / "tokenizer" / name) if file.is_file()), None)
        if file is None:
            raise CheckpointNotFoundError(f"The checkpoint {folder.name} has no {name}.", folder=str(folder))
        return file

    @cached_property
    def _pixels(self) -> tuple[PixelPolicy, PixelRules]:
        return read_pixels(self.family, self.vision_config, file=self.folder / "preprocessor_config.json")
