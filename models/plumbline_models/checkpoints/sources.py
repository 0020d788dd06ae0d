"""Places that weights come from: a file on this machine, or a file of a hub repository."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from plumbline_models.core.errors import CheckpointNotFoundError

CONFIG_NAMES: Final = ("open_clip_config.json", "config.json")
WEIGHT_NAMES: Final = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "weights.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
"""What folders of open_clip's layout call their weights, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    @property
    def is_present(self) -> bool:
        """Whether it is there."""
        return self.path.is_file()

    def fetch(self) -> Path:
        """The file.

        Raises:
            CheckpointNotFoundError: There is none.
        """
        if not self.path.is_file():
            raise CheckpointNotFoundError(f"There is no checkpoint {self.path.name}.", path=str(self.path))
        return self.path


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a Hugging Face repository; `names` are tried in order."""

    repository: str
    names: tuple[str, ...]

    def fetch(self) -> Path:
        """The file in the local hub cache, fetched if it is not there yet; what is cached is not asked for again.

        Raises:
            CheckpointNotFoundError: The repository has none of the names, or the hub cannot be reached.
        """
        return self._cached() or self._download()

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
            return next((Path(file) for file in cached if isinstance(file, str)), None)
        except HFValidationError as error:
            raise CheckpointNotFoundError(
                f"{self.repository} is not a hub name of the form org/name.", repository=self.repository
            ) from error

    def _download(self) -> Path:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415 - as above

        for name in self.names:
            try:
                return Path(hf_hub_download(self.repository, name))
            except LocalEntryNotFoundError as error:
                raise CheckpointNotFoundError(
                    f"{self.repository} is not in the local hub cache and the hub cannot be reached.",
                    repository=self.repository,
                ) from error
            except EntryNotFoundError:
                continue
            except OSError as error:  # what the hub refuses is one, too
                raise CheckpointNotFoundError(
                    f"The hub does not give out {self.repository}: it is not there, or needs a token.",
                    repository=self.repository,
                ) from error
        raise CheckpointNotFoundError(
            f"The hub repository {self.repository} holds none of {', '.join(self.names)}.", repository=self.repository
        )


WeightsSource: TypeAlias = LocalFile | HubFile


def parse_hub_file(hub: str) -> HubFile:
    """Read a tag's `org/repository/file`; where the file is left out, the usual names are meant."""
    organisation, repository, name = hub.split("/", 2)
    names = _safe_first(name) if name else WEIGHT_NAMES
    return HubFile(f"{organisation}/{repository}", names)


def find_in_folder(folder: Path, names: tuple[str, ...]) -> LocalFile:
    """The first of the names that a folder has.

    Raises:
        CheckpointNotFoundError: It has none of them, or is no folder.
    """
    for name in names:
        if (folder / name).is_file():
            return LocalFile(folder / name)
    raise CheckpointNotFoundError(
        f"The folder {folder.name} holds none of {', '.join(names)}.", folder=str(folder), names=names
    )


def _safe_first(name: str) -> tuple[str, ...]:
    """Before a pickle, the safetensors file that often lies beside it."""
    stem, dot, suffix = name.rpartition(".")
    return (f"{stem}.safetensors", name) if dot and suffix in {"bin", "pt", "pth"} else (name,)
