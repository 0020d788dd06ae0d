"""Images that engines in eight bits are calibrated on: a folder of the caller's, of the kind that will be scored.

One in four is held out of calibration, to measure on what was made.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.tuning import Tuning
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import ConfigError, ImageError
from plumbline_models.core.graph import Preprocess
from plumbline_models.images.decode import DecodePolicy, decode

logger = logging.getLogger(__name__)

MIN_IMAGES: Final = 16
MAX_IMAGES: Final = 128
"""The first in order of name are taken. Twice as many as 64 moved nothing, and each costs a tower four runs."""
_HELD_OUT: Final = 4  # one image in so many
_OPTION: Final = "calibration"
_POLICY: Final = DecodePolicy()
Batch: TypeAlias = Mapping[str, Array]


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

    @property
    def options(self) -> Mapping[str, str]:
        """What stands for the images in the key of an engine."""
        return {_OPTION: self.digest}

    def split(self, preprocess: Preprocess) -> tuple[Sequence[Batch], Sequence[Batch]]:
        """Images to calibrate on, and those that are held out; as `batches` gives them.

        Raises:
            ConfigError: There are too few.
        """
        batches = self.batches(preprocess)
        return [batch for index, batch in enumerate(batches) if index % _HELD_OUT], batches[::_HELD_OUT]

    def batches(self, preprocess: Preprocess) -> Sequence[Batch]:
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


def no_images(precision: str) -> str:
    """What to do where there are neither images nor engines.

    Args:
        precision: Which needs them.
    """
    return (
        f"The precision {precision} is calibrated on images: name a folder of them in engines.calibration_dir, or in "
        f"engines.dir the engines that `plumbline compile --precision {precision} --calibration FOLDER --out DIR` made."
    )


def check_images(tuning: Tuning, precision: str) -> None:
    """See that a tuning names images, or engines to use without any.

    Args:
        tuning: As for every backend.
        precision: Which needs them.

    Raises:
        ConfigError: Neither.
    """
    if tuning.calibration_dir is None and tuning.engines_dir is None:
        raise ConfigError(no_images(precision))


def find_shipped(store: EngineStore, key: EngineKey) -> EngineKey | None:
    """The key of the shipped engine that is like another, whatever images it was calibrated on; None: there is none.

    Args:
        store: Knows what was shipped.
        key: As it would be without images.

    Raises:
        ConfigError: Several are.
    """
    found = [facts for facts in store.shipped_facts() if _without_images(facts) == key.facts]
    if len(found) > 1:
        raise ConfigError(
            f"There are {len(found)} engines of {key.facts['graph']} in engines.dir that differ in their "
            "calibration only; leave the one that is meant."
        )
    return EngineKey(found[0]) if found else None


def _without_images(facts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Facts of a key without what stands for the images; None where there are no images in it."""
    options = facts.get("options")
    if not isinstance(options, dict) or _OPTION not in options:
        return None
    return {**facts, "options": {name: value for name, value in options.items() if name != _OPTION}}


def _check_count(num_images: int, folder: Path) -> None:
    if num_images < MIN_IMAGES:
        raise ConfigError(
            f"Calibrating takes at least {MIN_IMAGES} images, the folder holds {num_images}.",
            folder=str(folder),
        )
