"""HPSv3 checkpoints as published: `MizzenAI/HPSv3` on the hub, and folders laid out alike.

Their weights lie apart from what else belongs to a network, which is that of Qwen2-VL: `config.json`,
`preprocessor_config.json` and `tokenizer.json`. A folder may hold these too, there or in `base/`; else they are the
hub's. One token, that of the reward, stands behind the tokenizer's last, and the weights' table ends with it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plumbline_models.core.errors import CheckpointError
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.networks.causal.families import Wording
from plumbline_models.networks.causal.hpsv3 import REWARD, hpsv3_wording
from plumbline_models.networks.causal.published import PublishedNetwork
from plumbline_models.networks.causal.tokenizers import ByteLevelTokenizer
from plumbline_models.text.plain_text import PlainTokenizer
from plumbline_models.weights.digest import SHORT, sha256_of, verify
from plumbline_models.weights.folders import find_small_files, find_source, is_folder_name, read_json, seek_sources
from plumbline_models.weights.licences import checkpoint_origin
from plumbline_models.weights.shards import Shards
from plumbline_models.weights.sources import WeightsSource, present_files
from plumbline_models.weights.weight_files import INDEX, check_weights, num_weights

if TYPE_CHECKING:
    from plumbline_models.networks.causal.reward_loading import LoadedReward

PUBLISHED: Final = "MizzenAI/HPSv3"
BASE: Final = "Qwen/Qwen2-VL-7B-Instruct"
_WHOLE: Final = ("HPSv3.safetensors", "model.safetensors")
WEIGHTS: Final = tuple(name for whole in _WHOLE for name in (whole, f"{whole}{INDEX}"))
_CONFIG, _PIECES = "config.json", "tokenizer.json"
_MODEL_TYPE: Final = "qwen2_vl"


class RewardPieces:
    """A tokenizer with the reward token behind its last; see `PlainTokenizer`."""

    def __init__(self, pieces: PlainTokenizer) -> None:
        self._pieces = pieces
        self.num_tokens: int = pieces.num_tokens + 1

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; see `PlainTokenizer.encode`."""
        return self._pieces.encode(text)

    def control_id(self, name: str) -> int:
        """The id of a control token; see `PlainTokenizer.control_id`."""
        return self.num_tokens - 1 if name == REWARD else self._pieces.control_id(name)


@dataclass(frozen=True)
class RewardCheckpoint(PublishedNetwork):
    """A checkpoint by name; see `PublishedNetwork`."""

    family: Wording = field(default_factory=hpsv3_wording)
    base: str | None = None
    """Folder or hub name of Qwen2-VL's configuration and tokenizer; None: the folder's own, else the hub's."""
    pinned: str | None = None
    """What the weights must hash to; None where the configuration does not say."""

    @cached_property
    def weights(self) -> WeightsSource:
        """Where the weights are.

        Raises:
            CheckpointNotFoundError: The folder holds none.
        """
        return find_source(self.name, WEIGHTS)

    @cached_property
    def base_name(self) -> str:
        """Folder or hub name of all but the weights."""
        if self.base is not None:
            return self.base
        folder = Path(self.name).expanduser()
        inside = (folder / "base", folder) if is_folder_name(self.name) else ()
        return next((str(each) for each in inside if (each / _CONFIG).is_file()), BASE)

    @cached_property
    def folder(self) -> Path:
        """Where the configuration is."""
        return find_small_files(self.base_name)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            CheckpointError: It describes another network.
        """
        config = read_json(self.folder / _CONFIG)
        if config.get("model_type") != _MODEL_TYPE:
            raise CheckpointError(
                f"HPSv3 is a {_MODEL_TYPE}, and the config.json of {self.folder.name} describes another network.",
                found=config.get("model_type"),
            )
        return config

    @cached_property
    def vision_config(self) -> Mapping[str, Any]:
        """The tower's configuration.

        Raises:
            CheckpointError: There is none.
        """
        nested = self.config.get("vision_config")
        if not isinstance(nested, Mapping):
            raise CheckpointError(f"The config.json of {self.folder.name} has no vision_config.")
        return nested

    @cached_property
    def pieces(self) -> PlainTokenizer:
        """The tokenizer, with the reward token."""
        return RewardPieces(ByteLevelTokenizer(self.folder / _PIECES))

    @cached_property
    def shards(self) -> Shards:
        """The weights, checked against `pinned` where that is known.

        Raises:
            CheckpointNotFoundError: There are none, and none can be fetched.
            ChecksumError: They are others.
        """
        file = self.weights.fetch()
        if self.pinned is not None:
            verify(file, self.pinned)
        return Shards(file)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the weights: that of their file, or over those of their shards."""
        return sha256_of(self.weights.fetch())

    @property
    def origin(self) -> Origin:
        """Where the weights come from; fetches nothing."""
        return checkpoint_origin(self.name, is_present=self.weights.is_present)

    @cached_property
    def label(self) -> str:
        """Short, for keys; with a digest behind it, as the last part of the name does not tell all."""
        facts = hashlib.sha256(repr((self.name, self.family.name, self.base_name)).encode()).hexdigest()
        return f"{Path(self.name).expanduser().resolve().name}-{facts[:SHORT]}"

    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind, as `weight_files.num_weights` counts them."""
        return num_weights(present_files(self.weights), kind)

    def check(self, seek: Seek) -> None:
        """Look at weights, configuration and tokenizer, as far as names and headers tell.

        Raises:
            CheckpointError: One cannot be had, or is not usable.
        """
        beside = [find_source(self.base_name, (name,)) for name in (_CONFIG, _PIECES)]
        seek_sources((self.weights, *beside), seek)
        if self.weights.is_present:
            check_weights(self.weights.fetch())
        if all(source.is_present for source in beside) and (seek == "fetch" or is_folder_name(self.base_name)):
            _ = self.sizes, self.pixels, self.pieces

    @cached_property
    def network(self) -> "LoadedReward":
        """The network and its head; loaded once.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
        """
        from plumbline_models.networks.causal.reward_loading import open_reward  # noqa: PLC0415 - torch

        return open_reward(self.shards, self.config, name=self.origin.source, num_tokens=self.pieces.num_tokens)
