"""Inputs with the same rows, and what scores them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serve.offline.samples import COLOURS, TEXTS, WRITERS, SizeRunner, image_bytes


@pytest.fixture
def runner() -> SizeRunner:
    return SizeRunner()


@pytest.fixture
def make_input(tmp_path: Path) -> Callable[..., Path]:
    """Writes four rows as an input of a kind: an image, a text (the third has none) and, but in folders, a colour."""

    def make(kind: str) -> Path:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        lines: list[dict[str, Any]] = []
        for number, (text, colour) in enumerate(zip(TEXTS, COLOURS, strict=True)):
            (folder / f"{number}.png").write_bytes(image_bytes(number))
            lines.append({"image": f"{number}.png", "text": text, "colour": colour})
        return WRITERS[kind](folder, lines)

    return make
