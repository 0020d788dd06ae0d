"""Tensors of a published folder, read one at a time: safetensors or weights-only pickles, in one file or in shards.

torch is imported for what numpy cannot read: pickles, and numbers that numpy has no type for, such as bf16.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import CheckpointError, StateDictError
from plumbline_models.weights.archive import FileKind, check_types, has_scale, inspect, quantised, stored_types
from plumbline_models.weights.digest import sha256_of
from plumbline_models.weights.mapped import PLAIN, MappedTensors
from plumbline_models.weights.weight_files import files_of, find_weights_in, is_index, shards_of

if TYPE_CHECKING:
    from torch import Tensor


class Shards:
    """The tensors of one checkpoint by name; a tensor is read when it is used.

    Args:
        place: A file, or an index of shards; or a folder that holds one of `WEIGHT_FILES` (of `weight_files`), or an
            index of shards of one.

    Raises:
        CheckpointNotFoundError: There is none of these, or a shard is missing.
        CheckpointError: A file is damaged.
        UnsafeCheckpointError: A pickle holds more than tensors.
    """

    def __init__(self, place: Path) -> None:
        file = find_weights_in(place) if place.is_dir() else place
        self._folder = file.parent
        self._file_of = _list_tensors(file)
        self._pickles: dict[str, Mapping[str, Any]] = {}
        self._kinds: dict[str, FileKind] = {}
        self._maps: dict[str, MappedTensors] = {}

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

    def read(self, name: str, shape: tuple[int, ...]) -> Array:
        """One tensor as float32.

        Args:
            name: As stored.
            shape: What it must be.

        Raises:
            StateDictError: There is no such tensor, its shape is another, or it is quantised.
        """
        array = self._read_floats(name)
        if array.shape != shape:
            raise StateDictError(
                f"The checkpoint's {name} has another shape than its configuration says.",
                found=array.shape,
                expected=shape,
            )
        return array.astype(np.float32, copy=False)

    def read_rows(self, name: str, num_rows: int, width: int) -> Array:
        """The first rows of a table as float32 `[num_rows, width]`.

        Args:
            name: As stored.
            num_rows: How many are read.
            width: What that of the table must be.

        Raises:
            StateDictError: There is no such tensor, it has fewer rows, another width, or is quantised.
        """
        table = self._read_floats(name)
        if table.ndim != 2 or table.shape[0] < num_rows or table.shape[1] != width:  # noqa: PLR2004 - rows, width
            raise StateDictError(
                f"The checkpoint's {name} does not hold the tokenizer's vocabulary.",
                found=table.shape,
                expected=(num_rows, width),
            )
        return table[:num_rows].astype(np.float32, copy=False)

    def read_any(self, name: str) -> "Tensor":
        """One tensor as stored.

        Raises:
            StateDictError: There is no such tensor.
        """
        from safetensors import safe_open  # noqa: PLC0415 - with torch, which this takes

        file = self._holder(name)
        if self._is_safe(file):
            with safe_open(self._folder / file, framework="pt") as opened:
                return _as_tensor(opened.get_tensor(name), name)
        return _as_tensor(self._pickle(file).get(name), name)

    def check_types(self) -> None:
        """Check what those rely on who read the files without this class: endings that are true, and plain numbers.

        Raises:
            StateDictError: A tensor is quantised.
            CheckpointError: A file is safetensors, or a pickle, under the other's ending.
        """
        for file in sorted(set(self._file_of.values())):
            if self._is_safe(file) != file.endswith(".safetensors"):
                found, ending = ("safetensors", ".bin") if self._is_safe(file) else ("a pickle", ".safetensors")
                raise CheckpointError(f"The weight file {file} is {found} under the ending {ending}: rename it.")
            if self._is_safe(file):
                check_types(self._folder / file)
                continue
            self._check_pickle(file)

    def _check_pickle(self, file: str) -> None:
        import torch  # noqa: PLC0415 - for pickles

        from plumbline_models.weights.loading import FLOAT8, FLOATS  # noqa: PLC0415 - the same

        stored = {*(FLOATS - FLOAT8), torch.int64, torch.bool}
        loaded = self._pickles.get(file) or _load_pickle(self._folder / file)  # not kept: others read it
        for name, value in loaded.items():
            if isinstance(value, torch.Tensor) and value.dtype not in stored:
                self._require_plain(value, name)

    def _holder(self, name: str) -> str:
        """The file that holds a tensor."""
        if name not in self._file_of:
            raise StateDictError(f"The checkpoint has no {name}.", folder=str(self._folder))
        return self._file_of[name]

    def _read_floats(self, name: str) -> Array:
        """One tensor of plain numbers; those of fewer bits than float32 may have become it already."""
        file = self._holder(name)
        if self._is_safe(file) and self._mapped(file).kind_of(name) in PLAIN:
            return self._mapped(file).read(name)
        return self._widened(name)

    def _widened(self, name: str) -> Array:
        import torch  # noqa: PLC0415 - for what numpy has no type for

        tensor = self.read_any(name)
        self._require_plain(tensor, name)
        array: Array = tensor.to(torch.float32).numpy()
        return array

    def _require_plain(self, tensor: "Tensor", name: str) -> None:
        from plumbline_models.weights.loading import FLOAT8, FLOATS  # noqa: PLC0415 - torch, as above

        if tensor.dtype not in FLOATS or (tensor.dtype in FLOAT8 and has_scale(name, self._file_of)):
            raise quantised(name, str(tensor.dtype), folder=str(self._folder))

    def _mapped(self, file: str) -> MappedTensors:
        if file not in self._maps:
            self._maps[file] = MappedTensors(self._folder / file)
        return self._maps[file]

    def _is_safe(self, file: str) -> bool:
        if file not in self._kinds:
            self._kinds[file] = inspect(self._folder / file)
        return self._kinds[file] == "safetensors"

    def _pickle(self, file: str) -> Mapping[str, Any]:
        if file not in self._pickles:
            self._pickles[file] = _load_pickle(self._folder / file)
        return self._pickles[file]


def _list_tensors(file: Path) -> Mapping[str, str]:
    files_of(file)
    return shards_of(file) if is_index(file) else dict.fromkeys(_names_in(file), file.name)


def _names_in(file: Path) -> Sequence[str]:
    return list(stored_types(file) if inspect(file) == "safetensors" else _load_pickle(file))


def _load_pickle(file: Path) -> dict[str, Any]:
    from plumbline_models.weights.loading import read_pickle  # noqa: PLC0415 - torch, which reads them

    loaded = read_pickle(file, inspect(file))
    if not isinstance(loaded, dict):
        raise CheckpointError(f"The weight file {file.name} holds no state dict.", path=str(file))
    return loaded


def _as_tensor(value: object, name: str) -> "Tensor":
    from torch import Tensor  # noqa: PLC0415 - as above

    if not isinstance(value, Tensor):
        raise StateDictError(f"The checkpoint's {name} is not a tensor.", kind=type(value).__name__)
    return value
