"""How much less CPU time four preference scores of 16 candidates take: `python -m loadtests.scorers.best_of_16`.

`pickscore`, `hpsv2`, `aesthetic` and `clipscore` of 16 JPEG files for one prompt, all new in each round, from bytes to
scores; three random CLIPs of ViT-B/32's size. Ours is the service's whole request path in this process, without Ray and
sockets, one thread each for decoding and computing, nothing kept between requests. The loop is
`loadtests.baselines.preference_loop`: transformers and open_clip, eager, image by image, one thread. In one process and
in turn, medians of CPU seconds.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import open_clip
import torch
from safetensors.torch import save_file

from loadtests.baselines.hugging_face_clip import write_folder
from loadtests.baselines.preference_loop import PreferenceLoop
from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from loadtests.scorers.product import write_clip
from loadtests.service.images import captions, draw_images
from plumbline_models.core.protocols import Score
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage, Item, ItemFailure, ItemResult, ScoreRequest
from plumbline_serve.settings import Settings

ARCH = "ViT-B-32-quickgelu"
NUM_IMAGES = 16
PRECISIONS = ("fp32", "bf16")
NOTHING_KEPT = {f"{kind}_bytes": 0 for kind in ("image", "text", "pair")}
ONE_THREAD = {"decode_threads": 1, "compute_threads": 1, "compute_streams": 1}
Scores = list[dict[str, float]]
"""By scorer, of each image."""
Scoring = Callable[[Sequence[bytes], str], Scores]


@dataclass(frozen=True)
class Weights:
    """Random weights of three networks and a head, each in the layout in which it is published."""

    clip: Path
    hpsv2: Path
    """A file, with its architecture beside it."""
    pickscore: Path
    """A folder of the transformers library."""
    head: Path

    @classmethod
    def write(cls, folder: Path) -> Self:
        """Write them."""
        files = {}
        for seed, name in enumerate(("clip", "pickscore", "hpsv2")):
            (folder / name).mkdir()
            files[name] = write_clip(ARCH, folder / name, seed=seed)
        sizes = open_clip.get_model_config(ARCH)
        (folder / "hpsv2" / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes}), encoding="utf-8")
        write_folder(files["pickscore"], folder / "transformers", sizes)
        head = {"weight": torch.randn(1, sizes["embed_dim"]), "bias": torch.full((1,), 5.0)}
        save_file(head, folder / "head.safetensors")
        return cls(files["clip"], files["hpsv2"], folder / "transformers", folder / "head.safetensors")

    @property
    def sections(self) -> dict[str, Any]:
        """The configuration of the four scorers."""
        clip = {"arch": ARCH, "checkpoint": str(self.clip)}
        return {
            "clipscore": clip,
            "aesthetic": {"encoder": clip, "weights": str(self.head)},
            "hpsv2": {"model": str(self.hpsv2)},
            "pickscore": {"model": str(self.pickscore)},
        }


class Candidates:
    """Rounds of 16 new files and a new prompt, the same for every program."""

    def __init__(self) -> None:
        self._images, self._prompts = draw_images(NUM_IMAGES, is_new=True), captions()
        self._rounds: dict[int, tuple[list[bytes], str]] = {}

    def round(self, number: int) -> tuple[list[bytes], str]:
        """The files and the prompt."""
        if number not in self._rounds:
            self._rounds[number] = list(next(self._images).values()), next(self._prompts)
        return self._rounds[number]


def measure(weights: Weights, precisions: Sequence[str], *, cache_dir: Path, num_rounds: int) -> dict[str, Any]:
    """The loop and our request path in every precision, in turn."""
    loop = PreferenceLoop(ARCH, clip=weights.clip, head=weights.head, hpsv2=weights.hpsv2, pickscore=weights.pickscore)
    candidates = Candidates()
    found: dict[str, Scores] = {}
    with asyncio.Runner() as runner, ExitStack() as stack:
        programs: dict[str, Program] = {"loop": partial(_run, loop.score, candidates, found, "loop")}
        for precision in precisions:
            ours = stack.enter_context(_running(runner, weights, precision, cache_dir))
            programs[precision] = partial(_run, ours, candidates, found, precision)
        measured = interleave(programs, num_rounds=num_rounds)
    differences = {precision: _difference(found[precision], found["loop"]) for precision in precisions}
    return {"ratio": ratios(measured, "loop"), "largest_difference": differences, **measured}


def _run(ours: Scoring, candidates: Candidates, found: dict[str, Scores], name: str, number: int) -> None:
    found[name] = ours(*candidates.round(number))


@contextmanager
def _running(runner: asyncio.Runner, weights: Weights, precision: str, cache_dir: Path) -> Iterator[Scoring]:
    """Our request path, loaded."""
    settings = Settings(
        backend="openvino",
        precision=precision,
        scorers=weights.sections,
        caches=NOTHING_KEPT,
        replicas=ONE_THREAD,
        limits={"max_wait_ms": 600_000},
        cache_dir=cache_dir,
    )
    parts = assembled(settings)
    assembly = runner.run(parts.__aenter__())

    def score(files: Sequence[bytes], prompt: str) -> Scores:
        items = [Item(str(index), EncodedImage(data), prompt) for index, data in enumerate(files)]
        return [_values(result) for result in runner.run(assembly.service.score(ScoreRequest(items))).results]

    try:
        yield score
    finally:
        runner.run(parts.__aexit__(None, None, None))


def _values(result: ItemResult) -> dict[str, float]:
    if isinstance(result, ItemFailure):
        raise result.error
    scores = {name: score for name, score in result.scores.items() if isinstance(score, Score)}
    cosine = {"clipscore": scores["clipscore"].details["cosine"]}
    return {name: score.value for name, score in scores.items()} | cosine


def _difference(ours: Scores, theirs: Scores) -> dict[str, float]:
    """By scorer, of the last round; images are resized and rounded differently by the libraries."""
    names = theirs[0]
    return {
        name: float(f"{max(abs(a[name] - b[name]) for a, b in zip(ours, theirs, strict=True)):.1e}") for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default: both")
    add_out(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        weights = Weights.write(Path(name))
        precisions = options.precision or PRECISIONS
        case = measure(weights, precisions, cache_dir=Path(name) / "engines", num_rounds=options.rounds)
    report("best_of_16", {"best_of_16": case}, out=options.out)


if __name__ == "__main__":
    main()
