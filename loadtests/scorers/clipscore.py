"""How much less CPU time our CLIPScore takes than torchmetrics', in one process.

    make baselines
    .venv-baselines/torchmetrics_clipscore/bin/python -m loadtests.scorers.clipscore [--rounds 5] [--out FILE]

ViT-B/32 with random weights, decoded pixels of 480 by 640 and captions of 7 to 10 words, one thread, programs in turn,
medians of CPU seconds: `pairs_16` in one batch, and `pair` alone. `cosines` says how far ours are from its own, which
torchmetrics floors at zero.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import open_clip
import torch

from loadtests.baselines.hugging_face_clip import write_folder
from loadtests.baselines.torchmetrics_clipscore import TorchmetricsClipScore
from loadtests.scorers.fclipscore import CAPTIONS, SIZE
from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from loadtests.scorers.product import ClipScoring, Pixels, open_clipscore, write_clip

ARCH = "ViT-B-32-quickgelu"
BASELINE = "torchmetrics"
Pairs = Sequence[tuple[Pixels, str]]


class Scoring(Protocol):
    """Any program."""

    def score(self, pairs: Pairs, /) -> Any:
        """Do the whole work."""
        ...


def measure(programs: Mapping[str, Scoring], pairs: Pairs, num_rounds: int) -> dict[str, Any]:
    """Times of every program."""
    measured = interleave({name: _program(program, pairs) for name, program in programs.items()}, num_rounds=num_rounds)
    return {"ratio": ratios(measured, BASELINE), **measured}


def compare(baseline: TorchmetricsClipScore, ours: Mapping[str, ClipScoring], pairs: Pairs) -> dict[str, Any]:
    """How far our cosines are from the baseline's, which shows those above zero only.

    Raises:
        SystemExit: No pair is above zero.
    """
    expected = [baseline.score([pair]) for pair in pairs]
    shown = [index for index, cosine in enumerate(expected) if cosine > 0]
    if not shown:
        raise SystemExit(f"{BASELINE} floors every cosine: there is nothing to compare.")
    found = {name: program.score(pairs) for name, program in ours.items()}
    errors = {name: max(abs(cosines[index] - expected[index]) for index in shown) for name, cosines in found.items()}
    return {"pairs": len(shown), "largest_error": {name: float(f"{error:.1e}") for name, error in errors.items()}}


def _program(scoring: Scoring, pairs: Pairs) -> Program:
    return lambda _: scoring.score(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (len(CAPTIONS), *SIZE), dtype=np.uint8)
    pairs = list(zip(images, CAPTIONS, strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_clip(ARCH, folder)
        write_folder(checkpoint, folder / "hugging_face", open_clip.get_model_config(ARCH))
        baseline = TorchmetricsClipScore(folder / "hugging_face")
        ours = {
            precision: open_clipscore(ARCH, checkpoint, precision=precision, cache_dir=folder)
            for precision in ("fp32", "bf16")
        }
        programs: dict[str, Scoring] = {BASELINE: baseline, **ours}
        cases = {
            "cosines": compare(baseline, ours, pairs),
            "pairs_16": measure(programs, pairs, arguments.rounds),
            "pair": measure(programs, pairs[:1], arguments.rounds),
        }
    report("clipscore", cases, out=arguments.out)


if __name__ == "__main__":
    main()
