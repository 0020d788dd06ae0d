"""Checkpoints of the transformers library's layout: a folder, or a hub name whose files are fetched."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, UnsafeCheckpointError
from plumbline_models.core.weights import Seek
from plumbline_models.weights.hub import HUB
from plumbline_models.weights.sources import HubFile, LocalFile, WeightsSource, find_in_folder
from plumbline_models.weights.weight_files import check_weights, files_of, find_weights_in

SMALL_FILES: Final = ("*.json", "spiece.model", "tokenizer.model", "tokenizer/*")
"""What preprocessing needs: configurations and the tokenizer."""
WEIGHTS: Final = (
    ("*.safetensors", "*.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
"""In order of preference; a repository that has both is fetched once."""


def is_folder_name(name: str) -> bool:
    """Whether a name means a local folder: it exists, or could not be a hub name."""
    return Path(name).expanduser().is_dir() or name.startswith((".", "/", "~")) or name.count("/") != 1


def find_small_files(name: str) -> Path:
    """The folder of a checkpoint with at least its configurations and its tokenizer.

    Args:
        name: A folder, or a hub name such as `zhiqiulin/clip-flant5-xl`.

    Raises:
        CheckpointNotFoundError: There is no such folder, or the hub has it not or cannot be reached.
    """
    return _local(name) if is_folder_name(name) else _fetch(name, SMALL_FILES)


def find_weights(name: str) -> Path:
    """The folder of a checkpoint with everything; fetches what is missing, which may be many gigabytes.

    Raises:
        CheckpointNotFoundError: There is no such folder, or the hub has it not or cannot be reached.
    """
    if is_folder_name(name):
        return _local(name)
    for patterns in WEIGHTS:
        folder = _fetch(name, (*SMALL_FILES, *patterns))
        if any(True for pattern in patterns for _ in folder.glob(pattern)):
            return folder
    raise CheckpointNotFoundError(f"The hub repository {name} holds no weights, or they cannot be fetched.", name=name)


def has_weights(name: str) -> bool:
    """Whether a checkpoint's weights are on this machine, all of them; fetches nothing."""
    return bool(weight_files(name))


def weight_files(name: str) -> Sequence[Path]:
    """The files of a checkpoint's tensors; none where one is not on this machine."""
    folder = _find_here(name)
    try:
        return () if folder is None else files_of(find_weights_in(folder))
    except CheckpointError:
        return ()


def check_folder(name: str, seek: Seek) -> frozenset[str] | None:
    """Look at a checkpoint's weights as far as their headers tell.

    Args:
        name: A folder, or a hub name.
        seek: Whether the hub may be asked for what is not here, or it may be fetched.

    Returns:
        The tensors' names, where they are here and known without unpickling.

    Raises:
        CheckpointError: They cannot be had, or are not usable.
    """
    if not is_folder_name(name) and seek != "fetch" and not has_weights(name):
        if seek == "anywhere":
            HubFile(name, ("config.json",)).check_access()
        return None
    folder = find_weights(name) if seek == "fetch" else _find_here(name)
    return check_weights(find_weights_in(folder or _local(name)))


def find_source(name: str, files: tuple[str, ...]) -> WeightsSource:
    """The first of some files that a folder has, or those of a hub repository.

    Args:
        name: Of the folder, or of the repository.
        files: In order of preference.

    Raises:
        CheckpointNotFoundError: The folder has none of them.
    """
    return find_in_folder(Path(name).expanduser(), files) if is_folder_name(name) else HubFile(name, files)


def seek_sources(sources: Iterable[WeightsSource], seek: Seek) -> None:
    """See that files are here, or that the hub would give them out.

    Args:
        sources: The files.
        seek: Whether the hub may be asked for what is not here, or it may be fetched.

    Raises:
        CheckpointError: One cannot be had.
    """
    for source in sources:
        if seek == "fetch" or isinstance(source, LocalFile) or source.is_present:
            source.fetch()
        elif seek == "anywhere":
            source.check_access()


def _find_here(name: str) -> Path | None:
    if is_folder_name(name):
        return Path(name).expanduser()
    config = HubFile(name, ("config.json",))
    return config.fetch().parent if config.is_present else None


def read_json(file: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: It is not a JSON object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"The checkpoint has no {file.name}.", path=str(file)) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint's {file.name} is not usable.", path=str(file)) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"The checkpoint's {file.name} holds no object.", path=str(file))
    return values


def refuse_own_code(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a configuration that names program code of the checkpoint's own: it is never run.

    Args:
        config: As read.
        file: Which, for the error.

    Raises:
        UnsafeCheckpointError: It does.
    """
    if config.get("auto_map"):
        raise UnsafeCheckpointError(
            f"The {file.name} of {file.parent.name} names code of the checkpoint's own (auto_map), which is never run.",
            path=str(file),
        )


def trained_conversation(name: str) -> str | None:
    """The conversation that a local checkpoint was trained in, where its `config.json` says so under `plumbline`.

    Published checkpoints do not say; nothing is fetched to find out.

    Raises:
        CheckpointError: The configuration is not a JSON object.
    """
    file = Path(name).expanduser() / "config.json"
    if not is_folder_name(name) or not file.is_file():
        return None
    wording = read_json(file).get("plumbline")
    named = wording.get("conversation") if isinstance(wording, dict) else None
    return None if named is None else str(named)


def _local(name: str) -> Path:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise CheckpointNotFoundError(f"There is no checkpoint folder {folder.name}.", path=str(folder))
    return folder


def _fetch(name: str, patterns: Sequence[str]) -> Path:
    # Imported here: it takes a quarter of a second, and embedded checkpoints never need it.
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        here = snapshot_download(name, allow_patterns=list(patterns), local_files_only=not HUB.answers())  # nosec B615  # the configuration names it
        return Path(here)
    except HFValidationError as error:
        raise CheckpointNotFoundError(f"{name} is neither a folder nor a hub name.", name=name) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointNotFoundError(
            f"The checkpoint {name} is not in the local hub cache and the hub cannot be reached.", name=name
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointNotFoundError(
            f"The hub does not give out {name}: it is not there, or needs a token.", name=name
        ) from error
