"""CLIP-FlanT5 checkpoints as published: `zhiqiulin/clip-flant5-xl`, `-xxl`, and folders laid out alike.

A folder holds `config.json`, the weights, and may hold `vision_config.json`, `preprocessor_config.json` and the
tokenizer (`spiece.model`, there or in `tokenizer/`). What it lacks comes from where its configuration points: the
tower that `mm_vision_tower` names, and the tokenizer of Flan-T5, which all sizes share.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.images.preprocess_spec import is_squashed
from plumbline_models.networks.flant5.arch import (
    DEFAULT_TOWER,
    KNOWN_TOWERS,
    T5Arch,
    TowerArch,
    vision_of,
)
from plumbline_models.networks.flant5.tokenizer import UnigramTokenizer
from plumbline_models.networks.vqa_family import check_family
from plumbline_models.weights.digest import SHORT
from plumbline_models.weights.embedded import embedded_folder
from plumbline_models.weights.folders import (
    check_folder,
    find_small_files,
    find_weights,
    has_weights,
    is_folder_name,
    read_json,
    weight_files,
)
from plumbline_models.weights.licences import licence_of
from plumbline_models.weights.shards import Shards
from plumbline_models.weights.sources import HubFile
from plumbline_models.weights.weight_files import num_weights

PUBLISHER: Final = "zhiqiulin/"
DEFAULT_TOKENIZER: Final = "google/flan-t5-xl"
PIECES: Final = ("spiece.model", "tokenizer/spiece.model")
_TOWER: Final = "vision_tower."
_NUM_EXTRA_IDS = 100  # sentinels of every published T5 vocabulary
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def origin_of(name: str) -> Origin:
    """Where a checkpoint comes from.

    Args:
        name: A folder, or a hub name; folders are shown by their last part only.
    """
    return Origin(source=_source(name), licence=_licence(name), is_present=has_weights(name))


def _source(name: str) -> str:
    if not is_folder_name(name):
        return name
    folder = Path(name).expanduser().resolve()
    return "embedded" if folder == embedded_folder(folder.name) else folder.name


def _licence(name: str) -> str:
    return "Apache-2.0" if _source(name) == "embedded" else licence_of(name)


@dataclass(frozen=True)
class FlanT5Checkpoint:
    """A checkpoint by name; its parts are read at first use.

    Args:
        name: A folder, or a hub name.
        tokenizer: Folder or hub name of the tokenizer; None: the checkpoint's own, else Flan-T5's.
        vision_tower: Folder or hub name of the tower; None: what the configuration says.
    """

    name: str
    tokenizer: str | None = None
    vision_tower: str | None = None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            CheckpointError: It describes something else than a CLIP-FlanT5.
        """
        config = read_json(self._folder / "config.json")
        check_family(config, self.name, family="clip-flant5")
        _demand(config, "feed_forward_proj", {"gated-gelu"}, default="gated-gelu")
        _demand(config, "mm_projector_type", {"mlp2x_gelu"}, default=None)
        _demand(config, "mm_vision_select_feature", {"patch"}, default="patch")
        _demand(config, "mm_use_im_start_end", {False}, default=False)
        return config

    @cached_property
    def pieces(self) -> UnigramTokenizer:
        """The tokenizer."""
        folder = find_small_files(self.tokenizer) if self.tokenizer else self._folder
        file = _find_pieces(folder)
        if file is None and self.tokenizer is None:
            file = _find_pieces(find_small_files(DEFAULT_TOKENIZER))
        if file is None:
            raise CheckpointError(f"The checkpoint {self.name} has no spiece.model.", folder=str(folder))
        settings_file = file.with_name("tokenizer_config.json")
        settings = read_json(settings_file) if settings_file.is_file() else {}
        return UnigramTokenizer(file, num_extra_ids=_whole(settings, "extra_ids", default=_NUM_EXTRA_IDS))

    @cached_property
    def aspect(self) -> str:
        """`pad`, `square` or `squash`: what the published program makes of images that are not square."""
        named = str(self.config.get("image_aspect_ratio") or "square")
        return "squash" if named == "square" and is_squashed(self._preprocessor) else named

    @cached_property
    def tower_arch(self) -> TowerArch:
        """Sizes of the tower, up to the block whose output is used, and of the projector."""
        vision = self._vision_config
        num_blocks, select = (
            _whole(vision, "num_hidden_layers"),
            _whole(self.config, "mm_vision_select_layer", default=-2),
        )
        num_used = num_blocks + 1 + select if select < 0 else select
        if not 0 < num_used <= num_blocks:
            raise CheckpointError("The checkpoint uses a tower layer that there is not.", layer=select)
        shades = self._preprocessor
        return TowerArch(
            image_px=_whole(vision, "image_size"),
            patch_px=_whole(vision, "patch_size"),
            width=_whole(vision, "hidden_size"),
            num_blocks=num_used,
            num_heads=_whole(vision, "num_attention_heads"),
            ffn_width=_whole(vision, "intermediate_size"),
            norm_epsilon=float(vision.get("layer_norm_eps", 1e-5)),
            has_quick_gelu=vision.get("hidden_act", "quick_gelu") == "quick_gelu",
            mean=_three(shades, "image_mean", _OPENAI_MEAN),
            std=_three(shades, "image_std", _OPENAI_STD),
            projected_width=_whole(self.config, "d_model"),
        )

    @cached_property
    def t5_arch(self) -> T5Arch:
        """Sizes of encoder and decoder; the vocabulary is cut to the tokenizer's length."""
        config = self.config
        num_blocks = _whole(config, "num_layers")
        return T5Arch(
            width=_whole(config, "d_model"),
            head_width=_whole(config, "d_kv"),
            num_heads=_whole(config, "num_heads"),
            ffn_width=_whole(config, "d_ff"),
            num_encoder_blocks=num_blocks,
            num_decoder_blocks=_whole(config, "num_decoder_layers", default=num_blocks),
            num_buckets=_whole(config, "relative_attention_num_buckets", default=32),
            max_distance=_whole(config, "relative_attention_max_distance", default=128),
            norm_epsilon=float(config.get("layer_norm_epsilon", 1e-6)),
            num_tokens=self.pieces.num_tokens,
            start_id=_whole(config, "decoder_start_token_id", default=0),
        )

    @cached_property
    def shards(self) -> Shards:
        """The checkpoint's tensors."""
        return Shards(find_weights(self.name))

    @cached_property
    def tower_shards(self) -> Shards:
        """The tensors among which the tower's are: the checkpoint's own, or the tower's."""
        if self.vision_tower is None and self.shards.has_prefix(_TOWER):
            return self.shards
        return Shards(find_weights(self._tower_name))

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the weights: that of their file, or over those of their files."""
        if self.tower_shards is self.shards and len(self.shards.digests) == 1:
            return self.shards.digests[0]
        parts = self.shards.digests, () if self.tower_shards is self.shards else self.tower_shards.digests
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind, its tower's wherever they lie, as `weight_files.num_weights` counts them."""
        own = weight_files(self.name)
        if not own:
            return None
        if kind != "image" or (self.vision_tower is None and num_weights(own, kind)):
            return num_weights(own, kind)
        return num_weights(weight_files(self._tower_name), kind)

    def check(self, seek: Seek) -> None:
        """Look at weights, tower, configurations and tokenizer, as far as headers tell.

        Raises:
            CheckpointError: One cannot be had, or is not usable.
        """
        names = check_folder(self.name, seek)
        is_read = seek == "fetch" or is_folder_name(self.name)  # else its configuration is not here, or came with it
        is_inside = names is None or any(name.startswith(_TOWER) for name in names)
        if self.vision_tower is not None or (is_read and not is_inside):
            check_folder(self.vision_tower or self._tower_name, seek)
        if is_read and (seek == "fetch" or self._says_tower):
            _ = self.tower_arch
        if is_read:
            self._check_pieces(seek)

    def _check_pieces(self, seek: Seek) -> None:
        elsewhere = self.tokenizer or (None if _find_pieces(self._folder) else DEFAULT_TOKENIZER)
        if seek == "fetch" or elsewhere is None or is_folder_name(elsewhere):
            _ = self.t5_arch
        elif seek == "anywhere" and not (source := HubFile(elsewhere, PIECES)).is_present:
            source.check_access()

    @property
    def origin(self) -> Origin:
        """Where the weights come from; fetches nothing."""
        return origin_of(self.name)

    @cached_property
    def label(self) -> str:
        """Short, for keys; with a digest behind it where the last part of the name does not tell all."""
        last = Path(self.name).expanduser().resolve().name
        is_plain = self.tokenizer is None and self.vision_tower is None
        if is_plain and (self.origin.source == "embedded" or self.name.startswith(PUBLISHER)):
            return last
        return f"{last}-{hashlib.sha256(repr(self).encode()).hexdigest()[:SHORT]}"

    @cached_property
    def _folder(self) -> Path:
        return find_small_files(self.name)

    @property
    def _tower_name(self) -> str:
        named = self.vision_tower or str(self.config.get("mm_vision_tower") or DEFAULT_TOWER)
        inside = self._folder / named
        return str(inside) if self.vision_tower is None and inside.is_dir() else named

    @cached_property
    def _vision_config(self) -> Mapping[str, Any]:
        file = self._folder / "vision_config.json"
        if self.vision_tower is None and file.is_file():
            return read_json(file)
        if self._tower_name in KNOWN_TOWERS and not is_folder_name(self._tower_name):
            return KNOWN_TOWERS[self._tower_name]
        return vision_of(read_json(find_small_files(self._tower_name) / "config.json"))

    @property
    def _says_tower(self) -> bool:
        """Whether the tower's sizes are told on this machine."""
        has_file = self.vision_tower is None and (self._folder / "vision_config.json").is_file()
        return has_file or self._tower_name in KNOWN_TOWERS or is_folder_name(self._tower_name)

    @cached_property
    def _preprocessor(self) -> Mapping[str, Any]:
        file = self._folder / "preprocessor_config.json"
        return read_json(file) if file.is_file() else {}


def _find_pieces(folder: Path) -> Path | None:
    return next((folder / name for name in PIECES if (folder / name).is_file()), None)


def _demand(config: Mapping[str, Any], key: str, allowed: set[Any], *, default: Any) -> None:
    if config.get(key, default) not in allowed:
        raise CheckpointError(f"The checkpoint's {key} is none that CLIP-FlanT5 has.", found=config.get(key))


def _whole(config: Mapping[str, Any], key: str, *, default: int | None = None) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(f"The checkpoint's configuration needs a whole number as {key}.", found=value)
    return value


def _three(config: Mapping[str, Any], key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
    try:
        first, second, third = (float(value) for value in config.get(key, default))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint's {key} needs three numbers.", found=config.get(key)) from error
    return first, second, third
