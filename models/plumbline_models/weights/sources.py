"""Places that weights come from: a file on this machine, or a file of a hub repository."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError
from plumbline_models.weights.hub import HUB
from plumbline_models.weights.weight_files import INDEX, files_of, is_index, shards_of

_HUB_FILE_SLASHES: Final = 2
CONFIG_NAMES: Final = ("open_clip_config.json", "config.json")
_WHOLE: Final = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "weights.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
WEIGHT_NAMES: Final = tuple(name for whole in _WHOLE for name in (whole, f"{whole}{INDEX}"))
"""What folders of open_clip's layout call their weights, or an index of their shards, in the order in which they are
looked for."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine; of an index, with its shards."""

    path: Path

    @property
    def is_present(self) -> bool:
        """Whether it is there."""
        return _is_whole(self.path)

    def fetch(self) -> Path:
        """The file.

        Raises:
            CheckpointNotFoundError: There is none, or a shard that it lists is missing.
        """
        if not self.path.is_file():
            raise CheckpointNotFoundError(f"There is no checkpoint {self.path.name}.", path=str(self.path))
        files_of(self.path)
        return self.path


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a Hugging Face repository; `names` are tried in order."""

    repository: str
    names: tuple[str, ...]

    def fetch(self) -> Path:
        """The file in the local hub cache, fetched if it is not there yet; what is cached is not fetched again.

        Raises:
            CheckpointNotFoundError: The repository has none of the names, or the hub cannot be reached.
        """
        found = self.find()
        if found is None:
            raise self._none()
        return found

    def find(self) -> Path | None:
        """As `fetch`, or None where the repository is known to have none of the names.

        Raises:
            CheckpointNotFoundError: There is no such repository, or the hub cannot be reached.
        """
        return self._cached() or (None if self._is_known_to_lack() else self._download())

    def check_access(self) -> None:
        """Check with the hub that it would give out the file; fetches nothing.

        Raises:
            CheckpointNotFoundError: It would not, or cannot be reached.
        """
        if self._download(is_dry=True) is None:
            raise self._none()

    @property
    def is_present(self) -> bool:
        """Whether the local hub cache has it."""
        return self._cached() is not None

    def _cached(self) -> Path | None:
        # Imported here: it takes a quarter of a second, and local checkpoints never need it.
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415
        from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

        try:
            cached = (try_to_load_from_cache(self.repository, name) for name in self.names)
            found = next((Path(file) for file in cached if isinstance(file, str)), None)
            return found if found is not None and _is_whole(found) else None
        except HFValidationError as error:
            raise CheckpointNotFoundError(
                f"{self.repository} is not a hub name of the form org/name.", name=self.repository
            ) from error

    def _is_known_to_lack(self) -> bool:
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache  # noqa: PLC0415 - as above

        return all(try_to_load_from_cache(self.repository, name) is _CACHED_NO_EXIST for name in self.names)

    def _none(self) -> CheckpointNotFoundError:
        return CheckpointNotFoundError(
            f"The hub repository {self.repository} holds none of {_said(self.names)}.", name=self.repository
        )

    def _download(self, *, is_dry: bool = False) -> Path | None:
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415 - as above

        for name in self.names:
            try:
                return self._locate(name) if is_dry else self._download_one(name)
            except LocalEntryNotFoundError as error:
                raise CheckpointNotFoundError(
                    f"{self.repository} is not in the local hub cache and the hub cannot be reached.",
                    name=self.repository,
                ) from error
            except EntryNotFoundError:
                continue
            except OSError as error:  # what the hub refuses is one, too
                raise CheckpointNotFoundError(
                    f"The hub does not give out {self.repository}: it is not there, or needs a token.",
                    name=self.repository,
                ) from error
        return None

    def _locate(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above

        is_off = not HUB.answers()
        return Path(hf_hub_download(self.repository, name, dry_run=True, local_files_only=is_off).local_path)  # nosec B615  # the configuration names it

    def _download_one(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above

        is_off = not HUB.answers()
        file = Path(hf_hub_download(self.repository, name, local_files_only=is_off))  # nosec B615  # the configuration names it
        for shard in sorted(set(shards_of(file).values())) if is_index(file) else ():
            hf_hub_download(self.repository, shard, local_files_only=is_off)  # nosec B615  # the configuration names it
        return file


WeightsSource: TypeAlias = LocalFile | HubFile


def parse_hub_file(hub: str) -> HubFile:
    """Read a tag's `org/repository/file`; where the file is left out, the usual names are meant."""
    organisation, repository, name = hub.split("/", 2)
    names = _safe_first(name) if name else WEIGHT_NAMES
    return HubFile(f"{organisation}/{repository}", names)


def find_file(named: str) -> Path:
    """A file on this machine, or `org/repository/file` of the hub, fetched.

    Raises:
        CheckpointNotFoundError: There is neither, or the hub cannot be reached.
    """
    path = Path(named).expanduser()
    if path.is_file() or named.count("/") != _HUB_FILE_SLASHES or named.startswith((".", "/", "~")):
        return LocalFile(path).fetch()
    return parse_hub_file(named).fetch()


def present_files(source: WeightsSource) -> Sequence[Path]:
    """The files of its tensors; none where one is not on this machine."""
    return files_of(source.fetch()) if source.is_present else ()


def find_in_folder(folder: Path, names: tuple[str, ...]) -> LocalFile:
    """The first of the names that a folder has.

    Args:
        folder: On this machine.
        names: In order of preference.

    Raises:
        CheckpointNotFoundError: It has none of them, or is no folder.
    """
    for name in names:
        if (folder / name).is_file():
            return LocalFile(folder / name)
    if not folder.is_dir():
        raise CheckpointNotFoundError(f"There is no checkpoint folder {folder.name}.", folder=str(folder))
    raise CheckpointNotFoundError(f"The folder {folder.name} holds none of {_said(names)}.", folder=str(folder))


def _said(names: tuple[str, ...]) -> str:
    return ", ".join(name for name in names if not name.endswith(INDEX))


def _is_whole(file: Path) -> bool:
    try:
        return file.is_file() and all(part.is_file() for part in files_of(file))
    except CheckpointError:
        return False


def _safe_first(name: str) -> tuple[str, ...]:
    """Before a pickle, the safetensors file that often lies beside it."""
    stem, dot, suffix = name.rpartition(".")
    return (f"{stem}.safetensors", name) if dot and suffix in {"bin", "pt", "pth"} else (name,)
