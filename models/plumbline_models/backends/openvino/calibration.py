"""Images that int8 engines are calibrated on: a folder of the caller's, of the kind that will be scored."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import ConfigError, ImageError
from plumbline_models.core.graph import Preprocess
from plumbline_models.images.decode import DecodePolicy, decode

logger = logging.getLogger(__name__)

MIN_IMAGES: Final = 16
MAX_IMAGES: Final = 128
"""The first in order of name are taken. Twice as many as 64 moved nothing, and each costs a tower four runs."""
_POLICY: Final = DecodePolicy()


@dataclass(frozen=True, slots=True)
class Calibration:
    """The images of a folder.

    Args:
        files: In order of name.
        digest: Hex sha256 over their bytes, since other images make another engine.
    """

    files: tuple[Path, ...]
    digest: str

    @classmethod
    def of(cls, folder: Path) -> "Calibration":
        """Find a folder's files; none is decoded yet. Hidden ones and those too large for an image are passed over.

        Raises:
            ConfigError: There is no such folder, or too little in it.
        """
        try:
            found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
            files = tuple(path for path in found if path.stat().st_size <= _POLICY.max_bytes)[:MAX_IMAGES]
            digests = [hashlib.sha256(path.read_bytes()).digest() for path in files]
        except OSError as error:
            raise ConfigError("The folder of calibration images cannot be read.", folder=str(folder)) from error
        _check_count(len(files), folder)
        return cls(files, hashlib.sha256(b"".join(digests)).hexdigest())

    def batches(self, preprocess: Preprocess) -> Sequence[Mapping[str, Array]]:
        """Each image as a graph takes it, a batch of one; what is no image is passed over with a warning.

        Raises:
            ConfigError: Too few are left.
        """
        batches = []
        for path in self.files:
            try:
                batches.append(preprocess(decode(path.read_bytes(), _POLICY)))
            except (OSError, ImageError) as error:
                logger.warning("The calibration image %s is left out: %s", path.name, error)
        _check_count(len(batches), self.files[0].parent)
        # Copies: the runtime borrows the arrays, and takes none that is read-only.
        return [{name: np.array(array) for name, array in batch.items()} for batch in batches]


def _check_count(num_images: int, folder: Path) -> None:
    if num_images < MIN_IMAGES:
        raise ConfigError(
            f"Calibrating for int8 takes at least {MIN_IMAGES} images, the folder holds {num_images}.",
            folder=str(folder),
        )
