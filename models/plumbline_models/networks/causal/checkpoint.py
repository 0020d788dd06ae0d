"""Causal question-answering checkpoints as published: folders and hub names of the transformers library's layout.

LLaVA-1.5 comes in two: its authors' (`mm_*` keys in `config.json`, the tower named there or in `vision_config.json`)
and the library's; both give the same numbers here. The tokenizer lies in the folder, or in `tokenizer/` below it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.networks.causal.families import CausalFamily
from plumbline_models.networks.causal.pixels import PixelPolicy, Tiles, WholePatches
from plumbline_models.networks.causal.published import PublishedNetwork
from plumbline_models.networks.vqa_family import check_family
from plumbline_models.weights.digest import SHORT
from plumbline_models.weights.folders import (
    check_folder,
    find_small_files,
    find_weights,
    has_weights,
    is_folder_name,
    read_json,
    weight_files,
)
from plumbline_models.weights.licences import checkpoint_origin
from plumbline_models.weights.shards import Shards
from plumbline_models.weights.sources import HubFile
from plumbline_models.weights.weight_files import num_weights

_TOWER: Final = "model.vision_tower."


@dataclass(frozen=True, slots=True)
class PixelOverrides:
    """What of a checkpoint's own treatment of images is overridden; both change the score."""

    max_pixels: int | None = None
    """For families that keep an image's size: the most pixels it is given."""
    is_split: bool | None = None
    """For families that cut images into tiles: whether they do."""


@dataclass(frozen=True)
class CausalCheckpoint(PublishedNetwork):
    """A question-answering network by name; see `PublishedNetwork`."""

    family: CausalFamily
    overrides: PixelOverrides = PixelOverrides()

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            CheckpointError: It describes another family.
        """
        config = read_json(self.folder / "config.json")
        check_family(config, self.name, family=self.family.name)
        return config

    @cached_property
    def folder(self) -> Path:
        """Where its small files are."""
        return find_small_files(self.name)

    @cached_property
    def pixels(self) -> PixelPolicy:
        """How images are resized."""
        policy = self._pixels[0]
        if isinstance(policy, WholePatches) and self.overrides.max_pixels is not None:
            most = max(self.overrides.max_pixels, policy.factor_px**2)
            return replace(policy, max_pixels=most, min_pixels=min(policy.min_pixels, most))
        if isinstance(policy, Tiles) and self.overrides.is_split is not None:
            return replace(policy, is_split=self.overrides.is_split)
        if self.overrides != PixelOverrides():
            raise ConfigError(
                f"The family {self.family.name} does not take this setting of images.", overrides=self.overrides
            )
        return policy

    @cached_property
    def vision_config(self) -> Mapping[str, Any]:
        """The tower's configuration, wherever it stands."""
        nested = self.config.get("vision_config")
        if isinstance(nested, Mapping):
            return nested
        file = self.folder / "vision_config.json"
        if file.is_file():
            return read_json(file)
        config = read_json(find_small_files(self.tower_name) / "config.json")
        inner = config.get("vision_config")
        return inner if isinstance(inner, Mapping) else config

    @property
    def tower_name(self) -> str:
        """Folder or hub name of the tower of a checkpoint of LLaVA's own layout."""
        named = str(self.config.get("mm_vision_tower") or "openai/clip-vit-large-patch14-336")
        inside = self.folder / named
        return str(inside) if inside.is_dir() else named

    @cached_property
    def shards(self) -> Shards:
        """The checkpoint's tensors."""
        return Shards(find_weights(self.name))

    @cached_property
    def tower_shards(self) -> Shards | None:
        """The tower's tensors, where they lie apart from the checkpoint's, as LLaVA's own layout may have it."""
        if "mm_vision_tower" not in self.config or self.shards.has_prefix(_TOWER):
            return None
        return Shards(find_weights(self.tower_name))

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the weights: that of their file, or over those of their files, the tower's included."""
        digests = [*self.shards.digests, *(() if self.tower_shards is None else self.tower_shards.digests)]
        return digests[0] if len(digests) == 1 else hashlib.sha256(repr(tuple(digests)).encode()).hexdigest()

    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind, its tower's wherever they lie, as `weight_files.num_weights` counts them."""
        own = weight_files(self.name)
        if not own:
            return None
        if kind != "image" or "mm_vision_tower" not in self.config or num_weights(own, kind):
            return num_weights(own, kind)
        return num_weights(weight_files(self.tower_name), kind)

    def check(self, seek: Seek) -> None:
        """Look at weights, tower, configurations and tokenizer, as far as headers tell.

        Raises:
            SetupError: One cannot be had, is not usable, or does not take what is overridden.
        """
        names = check_folder(self.name, seek)
        if self.tokenizer is None or is_folder_name(self.tokenizer) or seek == "fetch":
            is_read = seek == "fetch" or is_folder_name(self.name)
            _ = self._pieces_file if is_read or self.tokenizer else None
        elif seek == "anywhere":
            HubFile(self.tokenizer, (self._pieces_name,)).check_access()
        if seek != "fetch" and not is_folder_name(self.name):
            return  # what else is needed its configuration says, which is not here, or was fetched with it
        _ = self.sizes
        if "mm_vision_tower" in self.config and not any(name.startswith(_TOWER) for name in names or (_TOWER,)):
            check_folder(self.tower_name, seek)
        if seek == "fetch" or self._says_tower:
            _ = self.pixels

    @property
    def _says_tower(self) -> bool:
        """Whether the tower's configuration is on this machine."""
        is_inside = isinstance(self.config.get("vision_config"), Mapping)
        return is_inside or (self.folder / "vision_config.json").is_file() or is_folder_name(self.tower_name)

    @property
    def origin(self) -> Origin:
        """Where the weights come from; fetches nothing."""
        return checkpoint_origin(self.name, is_present=has_weights(self.name))

    @cached_property
    def label(self) -> str:
        """Short, for keys; with a digest behind it, as the last part of the name does not tell all."""
        facts = (self.name, self.family.name, self.tokenizer, self.overrides)
        last = Path(self.name).expanduser().resolve().name
        return f"{last}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:SHORT]}"

    @cached_property
    def network(self) -> Any:
        """The network with its weights, as the transformers library builds it; loaded once.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
        """
        from plumbline_models.networks.causal.loading import NetworkSource, open_network  # noqa: PLC0415 - torch

        return open_network(cast("NetworkSource", self))  # pyright takes no cached property for a property
