"""What a weights file is, seen from its first bytes and its zip directory, before anything in it is read."""

import zipfile
from pathlib import Path
from typing import Literal, TypeAlias

from plumbline_models.core.errors import CheckpointError, UnsafeCheckpointError

FileKind: TypeAlias = Literal["safetensors", "zip_pickle", "pickle"]
_PICKLE_START = b"\x80"


def inspect(file: Path) -> FileKind:
    """Tell how a weights file must be read; its name counts for nothing but `.safetensors`.

    Raises:
        UnsafeCheckpointError: It is a TorchScript archive, which is a program, or it holds packed entries, whose true
            size only unpacking would tell.
        CheckpointError: It cannot be read.
    """
    if file.suffix == ".safetensors":
        return "safetensors"
    try:
        with file.open("rb") as opened:
            start = opened.read(1)
        if start == _PICKLE_START:
            return "pickle"
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive, file)
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"The checkpoint {file.name} is damaged.", path=str(file)) from error
    return "zip_pickle"


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
