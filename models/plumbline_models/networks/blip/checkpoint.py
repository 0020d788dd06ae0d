"""ImageReward checkpoints as published: `THUDM/ImageReward` on the hub, and folders laid out alike.

A folder holds the weights, `med_config.json`, and may hold BERT's `vocab.txt`, there or in `bert-base-uncased/`; else
the vocabulary is that of the hub. Nothing in it says the image's size, which the authors' code does, nor the sizes of
the image tower, which its tensors' shapes do. `med_config.json` says another width of the image tower than it has; like
their code, we do not believe it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plumbline_models.core.errors import CheckpointError
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.networks.blip.tokenizer import WordPieceTokenizer
from plumbline_models.weights.digest import SHORT, sha256_of, verify
from plumbline_models.weights.folders import find_source, is_folder_name, read_json, seek_sources
from plumbline_models.weights.licences import checkpoint_origin
from plumbline_models.weights.sources import HubFile, WeightsSource, find_in_folder, present_files
from plumbline_models.weights.weight_files import check_weights, num_weights

if TYPE_CHECKING:
    from plumbline_models.networks.blip.arch import BlipArch

PUBLISHED: Final = "THUDM/ImageReward"
WEIGHTS: Final = ("ImageReward.safetensors", "ImageReward.pt")
CONFIG: Final = "med_config.json"
VOCABULARIES: Final = ("vocab.txt", "bert-base-uncased/vocab.txt")
DEFAULT_TOKENIZER: Final = "google-bert/bert-base-uncased"


@dataclass(frozen=True)
class BlipCheckpoint:
    """A checkpoint by name; its parts are read at first use.

    Args:
        name: A folder, or a hub name.
        tokenizer: Folder or hub name of the vocabulary; None: the checkpoint's own, else BERT's.
        sha256: What the weights must hash to; None where the configuration does not say.
    """

    name: str
    tokenizer: str | None = None
    sha256: str | None = None

    @cached_property
    def weights(self) -> WeightsSource:
        """Where the weights are.

        Raises:
            CheckpointNotFoundError: The folder holds none.
        """
        return find_source(self.name, WEIGHTS)

    def fetch(self) -> Path:
        """The weights' file on this machine, checked against `sha256` where that is known.

        Raises:
            CheckpointNotFoundError: There is none, and none can be fetched.
            ChecksumError: It is another.
        """
        file = self.weights.fetch()
        if self.sha256 is not None:
            verify(file, self.sha256)
        return file

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of the weights."""
        return sha256_of(self.fetch())

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`med_config.json`, which says the sizes of the text encoder.

        Raises:
            CheckpointError: There is none, or it is not usable.
        """
        return read_json(find_source(self.name, (CONFIG,)).fetch())

    @cached_property
    def num_text_heads(self) -> int:
        """Of the text encoder."""
        heads = self.config.get("num_attention_heads")
        if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1:
            raise CheckpointError(f"The {CONFIG} needs a whole number as num_attention_heads.", found=heads)
        return heads

    @cached_property
    def words(self) -> WordPieceTokenizer:
        """The tokenizer."""
        return WordPieceTokenizer(self._vocabulary.fetch())

    @cached_property
    def arch(self) -> "BlipArch":
        """Sizes, of the tensors' shapes and the configuration; imports torch.

        Raises:
            CheckpointError: They are not those of ImageReward's network.
        """
        from plumbline_models.networks.blip.weights import read_arch  # noqa: PLC0415 - torch, when compiling

        return read_arch(self.fetch(), self.num_text_heads)

    @property
    def origin(self) -> Origin:
        """Where the weights come from; fetches nothing."""
        return checkpoint_origin(self.name, is_present=self.weights.is_present)

    @cached_property
    def label(self) -> str:
        """Short, for keys; of a folder with a digest of its weights."""
        beside = f"+{self.tokenizer}" if self.tokenizer else ""
        if not is_folder_name(self.name):
            return f"{self.name}{beside}"
        return f"{Path(self.name).expanduser().resolve().name}@{self.digest[:SHORT]}{beside}"

    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind, as `weight_files.num_weights` counts them."""
        return num_weights(present_files(self.weights), kind)

    def check(self, seek: Seek) -> None:
        """Look at weights, configuration and vocabulary, as far as names and headers tell.

        Raises:
            CheckpointError: One cannot be had, or is not usable.
        """
        seek_sources((self.weights, find_source(self.name, (CONFIG,)), self._vocabulary), seek)
        if self.weights.is_present:
            check_weights(self.fetch())
            _ = self.num_text_heads, self.words

    @cached_property
    def _vocabulary(self) -> WeightsSource:
        if self.tokenizer is not None:
            return find_source(self.tokenizer, VOCABULARIES)
        folder = Path(self.name).expanduser()
        if is_folder_name(self.name) and any((folder / name).is_file() for name in VOCABULARIES):
            return find_in_folder(folder, VOCABULARIES)
        return HubFile(DEFAULT_TOKENIZER, VOCABULARIES[:1])
