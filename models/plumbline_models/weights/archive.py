"""What a weights file is, seen from its first bytes, its header or its zip directory, before anything in it is read."""

import json
import math
import re
import shlex
import zipfile
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from plumbline_models.core.errors import CheckpointError, StateDictError, UnsafeCheckpointError

FileKind: TypeAlias = Literal["safetensors", "zip_pickle", "pickle"]
FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"})
"""What safetensors calls the numbers that weights may be stored in; those of 8 bits only where no scale is beside."""
_SCALES: Final = ("{name}_scale", "{name}_scale_inv", "{layer}.scale", "{layer}.scale_weight", "{layer}.scale_inv")
"""What programs that quantise to 8 bits call the scale of a tensor, or of the layer that it is of."""
_COUNTS: Final = frozenset({"I64", "BOOL"})
"""Of positions, counters and masks, which stand beside the weights."""
_PICKLE_START, _ZIP_START, _HEADER_START = b"\x80", b"PK", b"{"
_LENGTH_BYTES: Final = 8  # of a safetensors file: the length of its header, little-endian
_MAX_HEADER_BYTES: Final = 100_000_000  # the library's own bound
_FLOAT_BYTES, _HALF_BYTES = 4, 2
_SHOWN_BYTES: Final = 256
_FOREIGN: Final = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the weights: run `git lfs pull` where it was cloned"),
    (rb"[./\w-]*/annex/objects/", "is a git-annex pointer, not the weights: run `git annex get` where it was cloned"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "is a web page, not the weights: its download met a login or an error"),
    (rb"GGUF", "is a GGUF file, which is not read here: take the checkpoint that it was made of"),
    (rb"\x89HDF", "is an HDF5 file, of Keras or TensorFlow, which is not read here: save it as safetensors"),
    (rb"\x1f\x8b", "is packed by gzip: unpack it first"),
    (rb"\s*[\[{]", "is JSON, not weights"),
)
"""What is found under the names of weights, by how it begins."""
_CONVERT: Final = (
    "import torch, safetensors.torch as s; d = torch.load({source!r}, map_location='cpu', weights_only=False); "
    "d = next((d[k] for k in ('state_dict', 'model_state_dict', 'model', 'ema', 'swa') if k in d), d); "
    "d = d.state_dict() if hasattr(d, 'state_dict') else d; "
    "s.save_file({{k: v.detach().contiguous().clone() for k, v in d.items() if isinstance(v, torch.Tensor)}}, "
    "{target!r})"
)


def inspect(file: Path) -> FileKind:
    """Tell how a weights file must be read, by what it holds; its name counts for nothing.

    Raises:
        UnsafeCheckpointError: It is a TorchScript archive, which is a program, or it holds packed entries, whose true
            size only unpacking would tell.
        CheckpointError: It is something else, which the sentence names, or a part of a file.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(_SHOWN_BYTES)
        if start[_LENGTH_BYTES:][:1] == _HEADER_START and _header_bytes(start) <= _MAX_HEADER_BYTES:
            stored_types(file)
            return "safetensors"
        if start[:1] == _PICKLE_START:
            return "pickle"
        if start[:2] != _ZIP_START:
            raise CheckpointError(f"The checkpoint {file.name} {_describe(start)}.", path=str(file))
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive, file)
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"The checkpoint {file.name} is damaged: it cannot be read.", path=str(file)) from error
    return "zip_pickle"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a safetensors file, as its header describes it."""

    kind: str
    """What it is stored as, such as `F32`."""
    shape: tuple[int, ...]
    start: int
    """Byte of the file at which it begins."""
    end: int


def stored_types(file: Path) -> Mapping[str, str]:
    """What each tensor of a safetensors file is stored as, such as `F32`, by its name; reads the header alone.

    Raises:
        CheckpointError: The header is none, or the file holds less than it promises.
    """
    return {name: stored.kind for name, stored in stored_tensors(file).items()}


def stored_tensors(file: Path) -> Mapping[str, StoredTensor]:
    """What a safetensors file holds, and where, by name; reads the header alone.

    Raises:
        CheckpointError: The header is none, or the file holds less than it promises.
    """
    try:
        with file.open("rb") as opened:
            num_header = _header_bytes(opened.read(_LENGTH_BYTES))
            header = json.loads(opened.read(min(num_header, _MAX_HEADER_BYTES)))
        first = _LENGTH_BYTES + num_header
        tensors = {name: _stored(entry, first) for name, entry in header.items() if name != "__metadata__"}
        num_found = file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(
            f"The checkpoint {file.name} is damaged: its header cannot be read.", path=str(file)
        ) from error
    num_wanted = max((stored.end for stored in tensors.values()), default=first)
    if num_found < num_wanted:
        raise CheckpointError(
            f"The checkpoint {file.name} is damaged: it holds {num_found} of its {num_wanted} bytes.", path=str(file)
        )
    return tensors


def _stored(entry: Mapping[str, Any], first: int) -> StoredTensor:
    start, end = (first + int(offset) for offset in entry["data_offsets"])
    return StoredTensor(str(entry["dtype"]), tuple(map(int, entry["shape"])), start, end)


def num_numbers(file: Path, wants: Callable[[str], bool]) -> int:
    """How many numbers the wanted tensors hold. A pickle is not read for it: all of it counts, by its size.

    Args:
        file: Of weights.
        wants: Whether the name of a tensor is wanted.

    Raises:
        CheckpointError: The file is damaged, or none of weights.
    """
    kind = inspect(file)
    if kind == "safetensors":
        return sum(math.prod(each.shape) for name, each in stored_tensors(file).items() if wants(name))
    return file.stat().st_size // (_HALF_BYTES if kind == "zip_pickle" and _holds_halves(file) else _FLOAT_BYTES)


def _holds_halves(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        described = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        kinds = archive.read(described)
    return b"torch\nFloatStorage" not in kinds and (b"HalfStorage" in kinds or b"BFloat16Storage" in kinds)


def tensor_bytes(file: Path, wants: Callable[[str], bool]) -> Mapping[str, tuple[str, bytes]]:
    """Some tensors of a safetensors file: what each is stored as, and its bytes.

    Args:
        file: Its header is whole, as `stored_types` finds.
        wants: Whether a name is wanted.

    Raises:
        CheckpointError: The file is damaged.
    """
    types = stored_types(file)
    found: dict[str, tuple[str, bytes]] = {}
    with file.open("rb") as opened:
        num_header = _header_bytes(opened.read(_LENGTH_BYTES))
        header = json.loads(opened.read(num_header))
        for name in filter(wants, types):
            begin, end = (int(offset) for offset in header[name]["data_offsets"])
            opened.seek(_LENGTH_BYTES + num_header + begin)
            found[name] = types[name], opened.read(end - begin)
    return found


def check_types(file: Path) -> None:
    """Check that a safetensors file holds plain numbers.

    Raises:
        StateDictError: A tensor is stored as something else, such as int8, which means nothing without its scale.
        CheckpointError: The file is damaged.
    """
    types = stored_types(file)
    for name, kind in types.items():
        if kind not in FLOATS | _COUNTS or (kind.startswith("F8") and has_scale(name, types)):
            raise quantised(name, kind, path=str(file))


def has_scale(name: str, names: Container[str]) -> bool:
    """Whether a scale of that tensor lies beside it: then its own numbers are not the weights.

    Args:
        name: Of the tensor.
        names: Of all tensors of the checkpoint.
    """
    return any(scale.format(name=name, layer=name.rpartition(".")[0]) in names for scale in _SCALES)


def quantised(name: str, kind: str, **facts: object) -> StateDictError:
    """The error for a tensor that is not of plain floating-point numbers.

    Args:
        name: Of the tensor.
        kind: What it is stored as.
        **facts: For the log.
    """
    return StateDictError(
        f"The checkpoint's {name} is stored as {kind.removeprefix('torch.')}, not as floating-point numbers: "
        "quantised checkpoints are not read; take the one that it was made of.",
        name=name,
        **facts,
    )


def more_than_tensors(file: Path, reason: Exception) -> UnsafeCheckpointError:
    """The error for a pickle that weights-only reading refused: what it holds, and what to do.

    Args:
        file: The pickle.
        reason: What torch raised.
    """
    found = re.search(r"(?:GLOBAL|class) ([\w.]+\.\w+)", str(reason))
    what = f" ({found[1]})" if found else ""
    program = _CONVERT.format(source=file.name, target=f"{file.stem}.safetensors")
    return UnsafeCheckpointError(
        f"The checkpoint {file.name} holds more than tensors{what}, and loading it could run code. If you trust who "
        f"made it, make safetensors of it, in its folder: python -c {shlex.quote(program)}",
        path=str(file),
    )


def _header_bytes(start: bytes) -> int:
    return int.from_bytes(start[:_LENGTH_BYTES], "little")


def _describe(start: bytes) -> str:
    if not start:
        return "is damaged: it is empty"
    return next((said for pattern, said in _FOREIGN if re.match(pattern, start)), "is damaged, or no file of weights")


def _check_entries(archive: zipfile.ZipFile, file: Path) -> None:
    entries = archive.infolist()
    if any("/code/" in entry.filename or entry.filename.endswith("constants.pkl") for entry in entries):
        raise UnsafeCheckpointError(
            f"The checkpoint {file.name} is a TorchScript archive, and loading one runs code from it; "
            "save its state dict as safetensors first.",
            path=str(file),
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UnsafeCheckpointError(f"The checkpoint {file.name} holds packed entries.", path=str(file))
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise CheckpointError(f"The checkpoint {file.name} is a zip archive that torch has not made.", path=str(file))
