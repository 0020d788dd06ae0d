"""How much less CPU time our QualiCLIP takes than the straightforward eager one: `python loadtests/heads/qualiclip.py`.

Sixteen images of mixed sizes, one thread, random RN50 weights, both sides in one process and in turn, CPU seconds.
Prints the median of `--rounds` rounds of each side, and their ratio. `--backend torch` runs our graph in eager torch,
which shows what its foldings give by themselves.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[1]))
from peers.qualiclip_eager import EagerQualiClip

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.checkpoints.clip_spec import ClipSection, ClipSpec
from plumbline_models.checkpoints.qualiclip import load_qualiclip
from plumbline_models.checkpoints.quality_prompts import QUALICLIP
from plumbline_models.core.protocols import Embedded, Score, Workshop
from plumbline_models.encoders import Shelf
from plumbline_models.scorers.qualiclip import QualiClip

ARCH = "RN50-quickgelu"
SIZES = (
    *((224, 224), (224, 224), (224, 224), (256, 256), (256, 384), (384, 256), (384, 512), (512, 384)),
    *((333, 517), (512, 512), (300, 400), (480, 640), (40, 640), (160, 176), (640, 480), (200, 300)),
)
Scoring = Callable[[Sequence[NDArray[np.uint8]]], Sequence[float]]


def write_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    state = open_clip.create_model(ARCH, pretrained=None).state_dict()
    file = folder / "rn50.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items() if name != "attn_mask"}, file)
    return file


def open_ours(checkpoint: Path, folder: Path, backend: str) -> Scoring:
    opened = open_backend(backend, precision="fp32", tuning=Tuning(folder, num_threads=1))
    scorer = QualiClip.build({"arch": ARCH, "checkpoint": checkpoint}, Workshop(opened, Shelf()))
    encoder = scorer.image
    if encoder is None:
        raise SystemExit("The scorer has no encoder.")
    encoder.load()

    def score(images: Sequence[NDArray[np.uint8]]) -> list[float]:
        rows = [encoder.encode([encoder.prepare(image)])[0] for image in images]
        answers = scorer.score(Embedded(images=rows))
        return [answer.value for answer in answers if isinstance(answer, Score)]

    return score


def open_peer(checkpoint: Path) -> Scoring:
    tensors = load_qualiclip(ClipSpec.of(ClipSection(arch=ARCH, checkpoint=checkpoint)), QUALICLIP)
    return EagerQualiClip(tensors.image, tensors.prompts).score


def cpu_s(scoring: Scoring, images: Sequence[NDArray[np.uint8]]) -> float:
    started = time.process_time()
    scoring(images)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="openvino")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_weights(Path(folder))
        ours, peer = open_ours(checkpoint, Path(folder), options.backend), open_peer(checkpoint)
        difference = max(abs(a - b) for a, b in zip(ours(images), peer(images), strict=True))
        rounds = [(cpu_s(ours, images), cpu_s(peer, images)) for _ in range(options.rounds)]
    mine, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"ours {mine:.3f} CPU-s, eager {theirs:.3f} CPU-s, ratio {theirs / mine:.2f}, scores within {difference:.1e}")


if __name__ == "__main__":
    main()
