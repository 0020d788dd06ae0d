"""Draws the gallery of the demo with the renderer that training never saw.

python -m plumbline_training.evaluation.exhibits --out serve/plumbline_serve/demo/gallery
"""

import argparse
import json
from pathlib import Path
from typing import Final

from PIL import Image

from plumbline_training.evaluation.fields import render
from plumbline_training.scenes import PALETTE, Backdrop, Fill, Group, Look, Scene, Thing

SIDE_PX: Final = 192
STRIPES_DEG: Final = 35.0


def thing(colour: str, shape: str, at: tuple[float, float], size: float, fill: Fill = "solid") -> Thing:
    """An object of the gallery; place and size are shares of the side."""
    x, y = at
    return Thing(Look(colour, shape, fill), x * SIDE_PX, y * SIDE_PX, size * SIDE_PX, 6.0, STRIPES_DEG, PALETTE[colour])


def plain(colour: str) -> Backdrop:
    """One colour all over."""
    return Backdrop("plain", colour, (PALETTE[colour], PALETTE[colour]))


def scene(backdrop: Backdrop, *things: Thing) -> Scene:
    """A square scene of single objects."""
    groups = tuple(Group(one.look, 1) for one in things)
    return Scene(SIDE_PX, SIDE_PX, backdrop, groups, things)


PALE: Final = Backdrop("gradient", None, ((232, 226, 214), (196, 204, 214)), angle_deg=70.0)
GREY: Final = (150, 150, 150)
COFFEE: Final = Backdrop("photo", None, (GREY, GREY), grain=70.0, photo="coffee.png", box=(0.5, 0.0, 1.0, 0.75))
GALLERY: Final = (
    ("red_circle", "a red circle", "a blue circle", scene(PALE, thing("red", "circle", (0.5, 0.5), 0.42))),
    ("green_star", "a green star", "a green heart", scene(COFFEE, thing("green", "star", (0.52, 0.48), 0.45))),
    (
        "striped_square",
        "a striped yellow square on a black background",
        "an outlined yellow square on a black background",
        scene(plain("black"), thing("yellow", "square", (0.47, 0.52), 0.42, "striped")),
    ),
    (
        "heart_above_cross",
        "a pink heart above a blue cross",
        "a pink heart below a blue cross",
        scene(plain("white"), thing("pink", "heart", (0.45, 0.27), 0.36), thing("blue", "cross", (0.55, 0.73), 0.36)),
    ),
    (
        "three_diamonds",
        "three purple diamonds",
        "two purple diamonds",
        scene(PALE, *(thing("purple", "diamond", at, 0.3) for at in ((0.25, 0.3), (0.74, 0.34), (0.48, 0.75)))),
    ),
    (
        "ring_and_triangle",
        "a red ring and a green triangle",
        "a green ring and a red triangle",
        scene(plain("yellow"), thing("red", "ring", (0.28, 0.5), 0.36), thing("green", "triangle", (0.72, 0.5), 0.36)),
    ),
)
"""File, a caption that is right, one with one thing wrong, and what is drawn."""


def main() -> None:
    """Write the pictures and `captions.json`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, right, wrong, drawn in GALLERY:
        Image.fromarray(render(drawn)).save(options.out / f"{name}.png", optimize=True)
        listed.append({"image": f"{name}.png", "right": right, "wrong": wrong})
    (options.out / "captions.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
