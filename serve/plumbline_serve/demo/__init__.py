"""`make demo`: start the service, score a small gallery over REST and gRPC, print both replies, stop.

The gallery is six images, each with a caption that is right and one that is wrong in one place.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One image and its two captions."""

    path: Path
    right: str
    wrong: str


def exhibits() -> list[Exhibit]:
    """The gallery, in order; `gallery/captions.json` lists it."""
    folder = Path(str(files("plumbline_serve.demo") / "gallery"))
    entries = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    return [Exhibit(folder / entry["image"], entry["right"], entry["wrong"]) for entry in entries]
