"""Which files hold a checkpoint's tensors: one, or shards that an index lists."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError
from plumbline_models.core.protocols import EncoderKind
from plumbline_models.weights.archive import check_types, inspect, num_numbers, stored_types

INDEX: Final = ".index.json"
"""What stands behind the name of weights that are cut into shards."""
_OF_IMAGES: Final = ("visual", "vision")
WEIGHT_FILES: Final = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "weights.safetensors")
"""What folders of the transformers library's layout hold, in the order in which it is looked for."""


def is_index(file: Path) -> bool:
    """Whether a file lists shards, by its name."""
    return file.name.endswith(INDEX)


def shards_of(index: Path) -> Mapping[str, str]:
    """The shard that holds each tensor, by its name, as an index says; not whether it is there.

    Raises:
        CheckpointError: The index cannot be read, or names a file that is not beside it.
    """
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shard_of = {str(name): str(file) for name, file in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The weight index {index.name} is not usable.", path=str(index)) from error
    for file in sorted(set(shard_of.values())):
        if Path(file).name != file or not file:
            raise CheckpointNotFoundError(f"The shard {Path(file).name} is not beside its index.", path=str(index))
    return shard_of


def files_of(file: Path) -> list[Path]:
    """The files that hold the tensors: the file itself, or all shards that it lists, sorted.

    Raises:
        CheckpointNotFoundError: A shard is missing; the sentence names it.
        CheckpointError: The index cannot be read.
    """
    if not is_index(file):
        return [file]
    shards = [file.with_name(name) for name in sorted(set(shards_of(file).values()))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointNotFoundError(f"The shard {missing[0]} is missing{rest}.", path=str(file), missing=missing)
    return shards


def find_weights_in(folder: Path) -> Path:
    """The file of a folder of the transformers library's layout that holds its tensors, or lists the shards that do.

    Raises:
        CheckpointNotFoundError: There is none.
    """
    names = (name for whole in WEIGHT_FILES for name in (f"{whole}{INDEX}", whole))
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointNotFoundError(
            f"The folder {folder.name} holds none of {', '.join(WEIGHT_FILES)}.", folder=str(folder)
        )
    return found


def num_weights(files: Iterable[Path], kind: EncoderKind) -> int | None:
    """How many weights an encoder of that kind computes with: those of the image tower, or all others.

    Args:
        files: That hold the tensors of a checkpoint, all of them; none: they are not here.
        kind: Of the encoder.

    Raises:
        CheckpointError: One is not usable.
    """
    found = list(files)
    counts = [num_numbers(file, lambda name: _is_of_images(name) == (kind == "image")) for file in found]
    return sum(counts) if found else None


def _is_of_images(name: str) -> bool:
    """Whether a tensor is one of an image tower, as all layouts that are read here call them."""
    return any(part.startswith(_OF_IMAGES) for part in name.split("."))


def check_weights(file: Path) -> frozenset[str] | None:
    """Look at the files as far as their headers tell: that they are whole, can be read, and hold plain numbers.

    Returns:
        The tensors' names, where that is known without unpickling.

    Raises:
        CheckpointError: One is not usable.
    """
    parts = files_of(file)
    are_safe = [inspect(part) == "safetensors" for part in parts]
    names: set[str] = set(shards_of(file)) if is_index(file) else set()
    for part, is_safe in zip(parts, are_safe, strict=True):
        if is_safe:
            check_types(part)
            names |= stored_types(part).keys()
    return frozenset(names) if names else None
