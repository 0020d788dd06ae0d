"""What stands beside a CLIP's weights and changes them before they are compiled: another image tower, or an adapter."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from plumbline_models.core.errors import CheckpointNotFoundError
from plumbline_models.weights.folders import is_folder_name, read_json
from plumbline_models.weights.licences import file_licence, hub_licence
from plumbline_models.weights.sources import HubFile
from plumbline_models.weights.weight_files import check_weights, find_weights_in

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True, slots=True)
class Beside:
    """Files and folders on this machine.

    Args:
        image: A file with an image tower that takes the place of the weights' own, or a folder with one.
        adapter: A folder of `peft`'s layout, or a file of singular values.
        repository: Where the adapter was fetched from; None: it was here.
    """

    image: Path | None = None
    adapter: Path | None = None
    repository: str | None = None

    @classmethod
    def of(cls, image: Path | None, adapter: str | None) -> Self:
        """Find what a section names; an adapter of the hub is fetched if it is not here, for it is small.

        Args:
            image: A file or a folder.
            adapter: A file, a folder, or a hub name.

        Raises:
            CheckpointNotFoundError: The hub has no such adapter, or cannot be reached.
        """
        image = None if image is None else image.expanduser()
        if adapter is None:
            return cls(image)
        if is_folder_name(adapter) or Path(adapter).is_file():
            return cls(image, Path(adapter).expanduser())
        HubFile(adapter, (ADAPTER_CONFIG,)).fetch()
        return cls(image, HubFile(adapter, ADAPTER_WEIGHTS).fetch().parent, adapter)

    def __bool__(self) -> bool:
        return bool(self.image or self.adapter)

    @property
    def image_file(self) -> Path | None:
        """The file of the image tower.

        Raises:
            CheckpointNotFoundError: There is none.
        """
        if self.image is None:
            return None
        return find_weights_in(self.image) if self.image.is_dir() else _existing(self.image)

    @property
    def adapter_file(self) -> Path | None:
        """The file of the adapter's tensors.

        Raises:
            CheckpointNotFoundError: There is none.
        """
        if self.adapter is None:
            return None
        if not self.adapter.is_dir():
            return _existing(self.adapter)
        found = next((self.adapter / name for name in ADAPTER_WEIGHTS if (self.adapter / name).is_file()), None)
        return found or _existing(self.adapter / ADAPTER_WEIGHTS[0])

    @property
    def files(self) -> list[Path]:
        """All that decide what the weights become.

        Raises:
            CheckpointNotFoundError: One is missing.
        """
        return list(self._files())

    @property
    def names(self) -> list[str]:
        """Each in a word, for people."""
        adapter = self.repository or (self.adapter and self.adapter.name)
        return [name for name in (self.image and self.image.name, adapter) if name]

    @property
    def licence(self) -> str:
        """Of what changes the weights, as far as it is known."""
        return file_licence(self.files[0]) if self.repository is None else hub_licence(self.repository)

    def check(self) -> None:
        """Look at the files as far as their headers tell.

        Raises:
            CheckpointError: One cannot be had, or is not usable.
        """
        for file in self._files():
            if file.name == ADAPTER_CONFIG:
                read_json(file)
            else:
                check_weights(file)

    def _files(self) -> Iterator[Path]:
        yield from (file for file in (self.image_file, self.adapter_file) if file is not None)
        if self.adapter is not None and self.adapter.is_dir():
            yield _existing(self.adapter / ADAPTER_CONFIG)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise CheckpointNotFoundError(f"There is no {file.name} of {file.parent.name}.", path=str(file))
    return file
