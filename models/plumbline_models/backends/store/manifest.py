"""Seals a folder of artefacts with a manifest, and tells whether a sealed folder is still whole.

It finds damage and mix-ups, not forgery: whoever may write to the store may write a manifest that agrees.
"""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from plumbline_models.backends.store.key import EngineKey

MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 20


class BrokenEntryError(Exception):
    """The folder is not what its manifest says, or cannot be used; never leaves the store."""


def seal(folder: Path, key: EngineKey) -> None:
    """Write the manifest of the files in `folder`, owner-only modes, everything flushed to disk.

    Args:
        folder: Holds plain files and nothing else.
        key: What they were made for.

    Raises:
        OSError: The disk is full, or the folder holds more than plain files.
    """
    files = {path.name: _seal_file(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"key": dict(key.facts), "files": files}, indent=2, sort_keys=True)
    manifest = folder / MANIFEST
    with manifest.open("x", encoding="utf-8") as stream:
        stream.write(text + "\n")
    _seal_file(manifest)
    flush_folder(folder)


def _seal_file(path: Path) -> dict[str, Any]:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path.name} is not a plain file")
    path.chmod(0o600)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": digest, "num_bytes": path.stat().st_size}


def flush_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename or a new file survives a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(folder: Path, key: EngineKey) -> None:
    """Read every byte of a sealed folder.

    Args:
        folder: The entry.
        key: What it is to be made for.

    Raises:
        BrokenEntryError: Something is missing, altered, added, or made for another key.
        OSError: It cannot be read.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise BrokenEntryError("it is not a folder")
    manifest = _read_manifest(folder / MANIFEST)
    if manifest.get("key") != key.facts:
        raise BrokenEntryError("its manifest belongs to another engine")
    files = manifest.get("files")
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    if not isinstance(files, dict) or not files or found != set(files):
        raise BrokenEntryError("its files are not those of its manifest")
    for name, facts in files.items():
        _verify_file(folder / name, facts)


def read_facts(folder: Path) -> dict[str, Any]:
    """What a sealed folder says that it was made for; nothing else of it is looked at.

    Raises:
        BrokenEntryError: It says nothing, or no mapping.
        OSError: It cannot be read.
    """
    facts = _read_manifest(folder / MANIFEST).get("key")
    if not isinstance(facts, dict):
        raise BrokenEntryError("its manifest names no engine")
    return facts


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BrokenEntryError("its manifest is not a small plain file")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BrokenEntryError("it has no manifest") from error
    except (ValueError, RecursionError) as error:
        raise BrokenEntryError("its manifest is not JSON") from error
    if not isinstance(manifest, dict):
        raise BrokenEntryError("its manifest is not a mapping")
    return manifest


def _verify_file(path: Path, facts: object) -> None:
    if not isinstance(facts, dict):
        raise BrokenEntryError(f"its manifest says nothing of {path.name}")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise BrokenEntryError(f"{path.name} is not a plain file")
    if status.st_size != facts.get("num_bytes"):
        raise BrokenEntryError(f"{path.name} has another size than its manifest says")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != facts.get("sha256"):
            raise BrokenEntryError(f"{path.name} was altered")
