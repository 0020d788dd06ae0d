"""How much less CPU time our QualiCLIP takes than the straightforward one: `python -m loadtests.scorers.qualiclip`.

Sixteen images of mixed sizes, RN50 with the random weights of the golden scores, one thread, all programs in one
process and in turn, medians of CPU seconds. `fp32` and `bf16` are our graph on OpenVINO; `folded` is the same graph in
eager torch, which shows what its foldings give without a compiler. `by_size`: single images of some sizes.

The baseline is the published program as we write it down, or pyiqa's, in an environment that has it:

    make baselines
    .venv-baselines/pyiqa_qualiclip/bin/python -m loadtests.scorers.qualiclip --baseline pyiqa
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from loadtests.baselines.qualiclip_eager import EagerQualiClip
from loadtests.goldens import GOLDEN
from loadtests.goldens.quality_weights import spread_state_dict, vanilla_state_dict
from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from loadtests.scorers.product import open_qualiclip
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.qualiclip.prompts import QUALICLIP
from plumbline_models.networks.qualiclip.weights import load_qualiclip

ARCH = "RN50-quickgelu"
RECORD = GOLDEN / "qualiclip" / "golden.json"
SIZES = (
    *((224, 224), (224, 224), (224, 224), (256, 256), (256, 384), (384, 256), (384, 512), (512, 384)),
    *((333, 517), (512, 512), (300, 400), (480, 640), (40, 640), (160, 176), (640, 480), (200, 300)),
)
ALONE = ((224, 224), (384, 512), (480, 640))
Pixels: TypeAlias = NDArray[np.uint8]


class Scoring(Protocol):
    """Any program."""

    def score(self, images: Sequence[Pixels], /) -> list[float]:
        """Scores in order."""
        ...


def write_weights(folder: Path) -> Path:
    """A whole CLIP RN50 whose images get clearly different features."""
    seed = json.loads(RECORD.read_text(encoding="utf-8"))["seed"]
    checkpoint = folder / "qualiclip.pth"
    torch.save(spread_state_dict(vanilla_state_dict(seed), seed), checkpoint)
    return checkpoint


def open_baseline(name: str, checkpoint: Path, folder: Path) -> Scoring:
    """The straightforward program, or pyiqa's."""
    tensors = load_qualiclip(ClipSpec.of(ClipSection(arch=ARCH, checkpoint=checkpoint)), QUALICLIP)
    if name == "eager":
        return EagerQualiClip(tensors.image, tensors.prompts)
    from loadtests.baselines.pyiqa_qualiclip import PyiqaQualiClip  # noqa: PLC0415 - only its own environment has it

    return PyiqaQualiClip(torch.load(checkpoint, weights_only=True), tensors.prompts, folder / "pyiqa")


def open_ours(checkpoint: Path, cache_dir: Path) -> dict[str, Scoring]:
    """Our programs, loaded."""
    engines = {"folded": ("torch", "fp32"), "fp32": ("openvino", "fp32"), "bf16": ("openvino", "bf16")}
    return {
        name: open_qualiclip(ARCH, checkpoint, backend=backend, precision=precision, cache_dir=cache_dir)
        for name, (backend, precision) in engines.items()
    }


def measure(scorings: Mapping[str, Scoring], images: Sequence[Pixels], num_rounds: int) -> dict[str, Any]:
    """Times of every program, and how far its scores are from the baseline's, which is the first."""
    baseline = next(iter(scorings))
    expected = np.array(scorings[baseline].score(images))
    errors = {name: np.abs(np.array(program.score(images)) - expected).max() for name, program in scorings.items()}
    measured = interleave(
        {name: _program(program, images) for name, program in scorings.items()}, num_rounds=num_rounds
    )
    largest = {name: float(f"{error:.1e}") for name, error in errors.items() if name != baseline}
    return {"ratio": ratios(measured, baseline), "largest_error_of_score": largest, **measured}


def _program(scoring: Scoring, images: Sequence[Pixels]) -> Program:
    ask: Callable[[Sequence[Pixels]], object] = scoring.score
    return lambda _: ask(images)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", choices=("eager", "pyiqa"), default="eager")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    arguments = parser.parse_args()
    num_rounds = arguments.rounds
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    images = {size: generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in dict.fromkeys(SIZES)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_weights(folder)
        baseline = open_baseline(arguments.baseline, checkpoint, folder)
        programs = {arguments.baseline: baseline, **open_ours(checkpoint, folder)}
        mixed = measure(programs, [images[size] for size in SIZES], num_rounds)
        alone = {f"{size[0]}x{size[1]}": measure(programs, [images[size]], num_rounds)["ratio"] for size in ALONE}
    report("qualiclip", {"mixed_16": mixed, "by_size": alone}, out=arguments.out)


if __name__ == "__main__":
    main()
