"""What one request with eight scorers gains over eight requests with one.

    python -m loadtests.service.eight_scorers [--rounds 5] [--out FILE]

One image and one prompt, all new in each round, over REST, one client, nothing kept between requests. ViT-B/32 of
random weights for `clipscore`, `fclipscore`, `refclipscore`, `phrase_clipscore` and `aesthetic`, the embedded networks
for `vqascore` and `qualiclip`, and `integrity`. `together`: one request; `apart`: eight, one after the other.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from loadtests.service.images import captions, draw_images
from loadtests.service.load_generators import form
from loadtests.service.random_clip import ARCH, write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import NOTHING_KEPT, running, workplace
from loadtests.service.sharing import Bodies, measure

ON_CLIP = ("clipscore", "fclipscore", "refclipscore", "phrase_clipscore")
SCORERS = (*ON_CLIP, "aesthetic", "vqascore", "qualiclip", "integrity")
_WIDTH = 512  # of ViT-B/32's encodings


def main() -> None:
    parser = argparse.ArgumentParser(description="What one request with eight scorers gains over eight with one.")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    with workplace() as folder, running(write_scorers(folder), NOTHING_KEPT) as service:
        case = measure(service.port, rounds(), options.rounds)
    report({"cases": {"eight_scorers": case}}, out=options.out)


def write_scorers(folder: Path) -> str:
    """The configuration, with the weights that it names."""
    _, checkpoint = write_config(folder)
    head = folder / "head.safetensors"
    torch.manual_seed(0)
    save_file({"weight": torch.randn(1, _WIDTH), "bias": torch.full((1,), 5.0)}, head)
    clip: dict[str, Any] = {"arch": ARCH, "checkpoint": str(checkpoint)}
    scorers = dict.fromkeys(ON_CLIP, clip) | {"aesthetic": {"encoder": clip, "weights": str(head)}}
    scorers |= {"vqascore": {}, "qualiclip": {}, "integrity": {}}
    return json.dumps({"cache_dir": str(folder / "engines"), "scorers": scorers})  # JSON is YAML too


def rounds() -> Iterator[Bodies]:
    """Rounds of one image and one prompt."""
    texts = captions()
    for parts in draw_images(1, is_new=True):
        text = next(texts)
        (name,) = parts
        item = {"image": {"part": name}, "text": text, "references": [next(texts)], "phrases": text.split()[:3]}
        bodies = [
            form({"request": json.dumps({"items": [item], "scorers": chosen}).encode()}, parts)
            for chosen in itertools.chain([SCORERS], ([scorer] for scorer in SCORERS))
        ]
        yield {"together": bodies[:1], "apart": bodies[1:]}


if __name__ == "__main__":
    main()
