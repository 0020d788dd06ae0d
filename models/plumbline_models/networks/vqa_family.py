"""Which family a question-answering checkpoint is of: its `config.json` says it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from plumbline_models.weights.folders import is_folder_name, read_json
from plumbline_models.weights.sources import HubFile

Family: TypeAlias = Literal["clip-flant5", "llava-1.5", "qwen2.5-vl", "qwen3-vl", "smolvlm"]

_MODEL_TYPES: Final[Mapping[str, Family]] = {
    "clip_t5": "clip-flant5",
    "llava_t5": "clip-flant5",
    "llava": "llava-1.5",
    "llava_llama": "llava-1.5",
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "idefics3": "smolvlm",
    "smolvlm": "smolvlm",
}
"""Families by what `config.json` calls their networks."""
_PATCHES: Final = {"vision_feature_select_strategy": "default", "mm_vision_select_feature": "patch"}
_LAYERS: Final = ("vision_feature_layer", "mm_vision_select_layer")
"""What LLaVA's configurations say of the tower, each by the library's name and by their authors'."""
_PUBLISHED: Final[tuple[tuple[str, Family], ...]] = (
    (r"clip-flant5", "clip-flant5"),
    (r"llava-v?1\.5", "llava-1.5"),
    (r"qwen2\.5-vl", "qwen2.5-vl"),
    (r"qwen3-vl", "qwen3-vl"),
    (r"smolvlm", "smolvlm"),
)
"""Families by a pattern of the hub names under which they are published, so that listing them needs no hub."""


def settle_family(name: str, stated: Family | None) -> Family:
    """The family of a checkpoint.

    Args:
        name: A folder, or a hub name; of the latter only what is cached is read, unless nothing else tells.
        stated: What the configuration says.

    Raises:
        ConfigError: The configuration says another family than the checkpoint.
        CheckpointError: There is no such checkpoint, or it is of no family that is known.
    """
    config = _find_config(name)
    if config is not None:
        found = family_of(config, name)
        if stated is not None and stated != found:
            raise ConfigError(
                f"The checkpoint {name} is no {stated}: by its config.json it is a {found}. Leave family out.",
                found=found,
            )
        return found
    published: Family | None = next(
        (family for pattern, family in _PUBLISHED if re.search(pattern, name.lower())), None
    )
    return stated or published or family_of(read_json(HubFile(name, ("config.json",)).fetch()), name)


def family_of(config: Mapping[str, Any], name: str) -> Family:
    """The family that a `config.json` describes.

    Args:
        config: As read.
        name: The checkpoint's, for the error.

    Raises:
        CheckpointError: It is none that is known.
    """
    if "d_kv" in config and "mm_projector_type" in config:
        return "clip-flant5"
    kind = config.get("model_type")
    found = _MODEL_TYPES.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise CheckpointError(
            f"The checkpoint {name} has the model_type {kind}, which is of no family here: there are "
            f"{', '.join(family for _, family in _PUBLISHED)}.",
            model_type=kind,
        )
    if found == "llava-1.5":
        _check_llava(config, name)
    return found


def _check_llava(config: Mapping[str, Any], name: str) -> None:
    """Refuse the LLaVAs that read an image otherwise than LLaVA-1.5: from one crop, and of one layer the patches."""
    if str(config.get("mm_patch_merge_type", "flat")).startswith("spatial"):
        raise CheckpointError(f"The checkpoint {name} is a LLaVA that cuts images into tiles, and no llava-1.5.")
    if any(config.get(key) not in (None, patches) for key, patches in _PATCHES.items()):
        raise CheckpointError(f"The checkpoint {name} is a LLaVA that reads the tower's class token, and no llava-1.5.")
    if any(isinstance(config.get(key), list) for key in _LAYERS):
        raise CheckpointError(f"The checkpoint {name} is a LLaVA that reads several tower layers, and no llava-1.5.")


def check_family(config: Mapping[str, Any], name: str, *, family: Family) -> None:
    """Check that a `config.json` describes that family.

    Args:
        config: As read.
        name: The checkpoint's, for the error.
        family: What it must be.

    Raises:
        CheckpointError: It describes another, which the sentence names.
    """
    found = family_of(config, name)
    if found != family:
        raise CheckpointError(f"The checkpoint {name} is no {family}: by its config.json it is a {found}.", found=found)


def _find_config(name: str) -> Mapping[str, Any] | None:
    if is_folder_name(name):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise CheckpointNotFoundError(f"There is no checkpoint folder {folder.name}.", path=str(folder))
        return read_json(folder / "config.json")
    source = HubFile(name, ("config.json",))
    return read_json(source.fetch()) if source.is_present else None
