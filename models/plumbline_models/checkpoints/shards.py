"""Tensors of a published folder, read one at a time: safetensors or weights-only pickles, in one file or in shards."""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from plumbline_models.checkpoints.archive import inspect
from plumbline_models.checkpoints.digest import sha256_of
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, StateDictError, UnsafeCheckpointError

WEIGHT_FILES: Final = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "weights.safetensors")
"""Looked for in this order, each with `.index.json` behind it where it is cut into shards."""


class Shards:
    """The tensors of one folder by name; nothing but names is read before it is asked for.

    Args:
        folder: Holds one of `WEIGHT_FILES`, or an index of shards of one.

    Raises:
        CheckpointNotFoundError: There is none of these, or a shard is missing.
        CheckpointError: A file is damaged.
        UnsafeCheckpointError: A pickle holds more than tensors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file_of = _list_tensors(folder)
        self._pickles: dict[str, Mapping[str, Tensor]] = {}

    @property
    def digests(self) -> Sequence[str]:
        """Hex sha256 of each weight file, in the order of their names."""
        return [sha256_of(self._folder / name) for name in sorted(set(self._file_of.values()))]

    @property
    def names(self) -> Sequence[str]:
        """Of all tensors."""
        return list(self._file_of)

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def has_prefix(self, prefix: str) -> bool:
        """Whether any tensor's name begins so."""
        return any(name.startswith(prefix) for name in self._file_of)

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor as float32.

        Args:
            name: As stored.
            shape: What it must be.

        Raises:
            StateDictError: There is no such tensor, or its shape is another.
        """
        tensor = self.read_any(name)
        if tuple(tensor.shape) != shape:
            raise StateDictError(
                f"The checkpoint's {name} has another shape than its configuration says.",
                found=tuple(tensor.shape),
                expected=shape,
            )
        return tensor.to(torch.float32)

    def read_rows(self, name: str, num_rows: int, width: int) -> Tensor:
        """The first rows of a table as float32 `[num_rows, width]`.

        Raises:
            StateDictError: There is no such tensor, or it has fewer rows, or another width.
        """
        table = self.read_any(name)
        if table.ndim != 2 or table.shape[0] < num_rows or table.shape[1] != width:  # noqa: PLR2004 - rows, width
            raise StateDictError(
                f"The checkpoint's {name} does not hold the tokenizer's vocabulary.",
                found=tuple(table.shape),
                expected=(num_rows, width),
            )
        return table[:num_rows].to(torch.float32)

    def read_any(self, name: str) -> Tensor:
        """One tensor as stored.

        Raises:
            StateDictError: There is no such tensor.
        """
        if name not in self._file_of:
            raise StateDictError(f"The checkpoint has no {name}.", folder=str(self._folder))
        file = self._file_of[name]
        if file.endswith(".safetensors"):
            with safe_open(self._folder / file, framework="pt") as opened:
                return _as_tensor(opened.get_tensor(name), name)
        if file not in self._pickles:
            self._pickles[file] = _load_pickle(self._folder / file)
        return _as_tensor(self._pickles[file].get(name), name)


def _list_tensors(folder: Path) -> dict[str, str]:
    for name in WEIGHT_FILES:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _read_index(index)
        file = folder / name
        if file.is_file():
            return dict.fromkeys(_names_in(file), name)
    raise CheckpointNotFoundError(f"There are no weights in {folder.name}.", folder=str(folder), wanted=WEIGHT_FILES)


def _read_index(index: Path) -> dict[str, str]:
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        file_of = {str(name): str(file) for name, file in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The weight index {index.name} is not usable.", path=str(index)) from error
    for file in set(file_of.values()):
        if Path(file).name != file or not (index.parent / file).is_file():
            raise CheckpointNotFoundError(f"The shard {Path(file).name} is missing.", path=str(index))
    return file_of


def _names_in(file: Path) -> list[str]:
    if file.suffix != ".safetensors":
        return list(_load_pickle(file))
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The weight file {file.name} is damaged.", path=str(file)) from error


def _load_pickle(file: Path) -> dict[str, Any]:
    kind = inspect(file)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=kind == "zip_pickle")
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"The weight file {file.name} holds more than tensors, and loading it could run code.", path=str(file)
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"The weight file {file.name} is damaged.", path=str(file)) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"The weight file {file.name} holds no state dict.", path=str(file))
    return loaded


def _as_tensor(value: object, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise StateDictError(f"The checkpoint's {name} is not a tensor.", kind=type(value).__name__)
    return value
