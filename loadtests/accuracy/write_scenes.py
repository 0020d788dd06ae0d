"""Writes the drawn scenes that `plumbline evaluate scenes` reads: a tar that ships with the service.

By the renderer that training never saw, each with a true caption and a foil that changes one thing.

    python -m loadtests.accuracy.write_scenes [--pairs 90] [--seed 4711] OUT
"""

import argparse
import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from plumbline_training.evaluation.pairs import Pair, draw_pairs

QUALITY = 90


def write(path: Path, num_pairs: int, seed: int) -> None:
    """Write scenes in the layout of webdataset; the same arguments give the same bytes.

    Args:
        path: Of the tar.
        num_pairs: How many.
        seed: Of the scenes.
    """
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, pair in enumerate(draw_pairs(num_pairs, seed)):
            for ending, data in (("jpg", _image(pair)), ("json", _labels(pair)), ("txt", pair.truth.encode())):
                member = tarfile.TarInfo(f"{number:03d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _image(pair: Pair) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pair.image).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _labels(pair: Pair) -> bytes:
    changed = [[int(start), int(end)] for start, end in pair.changed]
    return json.dumps({"kind": pair.kind, "foil": pair.foil, "changed": changed}).encode()


def main() -> None:
    """Write."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=90)
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    write(options.out, options.pairs, options.seed)


if __name__ == "__main__":
    main()
