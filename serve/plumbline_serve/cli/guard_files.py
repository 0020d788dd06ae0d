"""What `plumbline guards build` does: reads a folder and a file, and has the service build the guard."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from plumbline_models.core.errors import ConfigError
from plumbline_serve.assembly import assembled
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.messages import EncodedImage
from plumbline_serve.settings import Settings


def build(settings: Settings, folder: Path, texts: Path, others: Path | None = None) -> tuple[str, int, int]:
    """Build a guard and keep it.

    Args:
        settings: Which scorers, and where it is kept.
        folder: Of images.
        texts: File of captions, one a line.
        others: File of texts of other kinds, one a line.

    Returns:
        The name of what was built, and how many images and texts were read.

    Raises:
        ConfigError: No scorer is configured that has encoders of images and texts.
        InvalidFieldError: Images or texts are too few.
        OSError: A file cannot be read.
    """
    captions, apart = _lines(texts), [] if others is None else _lines(others)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    images = [EncodedImage(path.read_bytes()) for path in files]
    return asyncio.run(_build(settings, images, captions, apart)), len(images), len(captions)


async def _build(
    settings: Settings, images: Sequence[EncodedImage], captions: Sequence[str], others: Sequence[str]
) -> str:
    known = make_scorers(settings)
    chosen = next((name for name, each in known.items() if each.image is not None and each.text is not None), None)
    if chosen is None:
        raise ConfigError("No scorer is configured that has encoders of images and texts into one space.")
    async with assembled(settings, {chosen: known[chosen]}) as assembly:
        return (await assembly.service.guards.build(assembly.service.pipeline, images, captions, others)).policy


def _lines(file: Path) -> list[str]:
    """The lines that are not empty, each once."""
    return list(dict.fromkeys(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()))
