"""What fewer tokens in CLIP's image tower gain, and do to scores: `python -m loadtests.engine.leaner_towers`.

Each of the ways of `fewer_tokens`, compiled by OpenVINO as the full tower is, beside that tower. Speed: one thread,
one process, programs in turn, the least CPU time of all rounds, random weights of three sizes and the embedded
mini-clip. Scores: mini-clip, the one here with trained weights, on scenes that it was not trained on: how far cosines
move, and Spearman's correlation with the full tower's cosines, of all pairs of an image and a caption and of the images
of each caption; how often the true caption is above its foil; and how far cosines move where an image is encoded alone
and not in a batch of 32. Random weights say nothing of scores.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loadtests.engine.fewer_tokens import LeanImageTower, Reduction, Way
from loadtests.engine.int8 import NUM_CAPTIONS, compare, embed
from loadtests.engine.towers import open_ours
from loadtests.scorers.interleaved import Program, add_out, interleave, report
from loadtests.scorers.product import write_clip
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.engines import Backend, Engine
from plumbline_models.core.graph import Graph
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.networks.clip.arch import ImageArch
from plumbline_models.networks.clip.graph import clip_image_graph
from plumbline_models.networks.clip.image_tower import ClipImage
from plumbline_models.networks.clip.pixels import fit_pixels, white
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.state_dicts import fill
from plumbline_models.networks.clip.weights import load_clip
from plumbline_training.evaluation.pairs import draw_pairs

SEED = 99
NUM_ALONE = 200
"""Scenes that are also encoded one by one, to see whether a batch changes their scores."""
MINI = "mini-clip"
BATCHES: Mapping[str, int] = {MINI: 16, "ViT-B-32": 8, "ViT-B-16": 4, "ViT-L-14": 2}
"""Images of one run, by architecture."""
FULL = "full"
EVERYWHERE = (0.125, 0.25, 0.5)
"""Of the patches, merged away by all blocks together."""
ONCE: Sequence[tuple[Way, float, float]] = (
    *(("merge", 0.25, 0.4), ("merge", 0.25, 0.6), ("merge", 0.48, 0.6)),
    *(("condense", 0.25, 0.4), ("condense", 0.5, 0.4), ("condense", 0.5, 0.6), ("condense", 0.75, 0.6)),
    *(("condense", 0.75, 0.8), ("condense", 0.9, 0.8)),
)
"""Of the patches, taken away after one block, at which depth."""


def ways(arch: ImageArch) -> dict[str, Reduction]:
    """All reductions that are measured, by name."""
    found = {f"merge {share:.1%} in all blocks": Reduction.everywhere(arch, share) for share in EVERYWHERE}
    for way, share, depth in ONCE:
        found[f"{way} {share:.1%} at {depth} of the depth"] = Reduction.once(way, arch, share, depth=depth)
    return found


def open_spec(name: str, folder: Path) -> ClipSpec:
    """The embedded CLIP, or random weights of an architecture."""
    section = ClipSection() if name == MINI else ClipSection(arch=name, checkpoint=write_clip(name, folder))
    return ClipSpec.of(section)


def compile_lean(spec: ClipSpec, reduction: Reduction, backend: Backend) -> Engine:
    """The image tower with tokens taken away, compiled."""
    full = clip_image_graph(spec)
    lean: Graph = dataclasses.replace(
        full, fingerprint=f"{full.fingerprint} {reduction}", build=partial(_build, spec, reduction), shipped=None
    )
    return backend.compile(lean)


def _build(spec: ClipSpec, reduction: Reduction) -> ClipImage:
    with torch.device("meta"):
        tower = LeanImageTower(ImageArch.of(spec.arch), reduction)
    fill(tower, load_clip(spec).image, name="image")
    preprocess = PreprocessSpec.from_config(spec.arch.preprocess_config)
    module = ClipImage(tower, mean=preprocess.mean, std=preprocess.std, white=white(preprocess))
    return module.eval()


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One architecture: the ways beside the full tower, and scores where the weights are trained."""
    spec = open_spec(name, folder)
    tuning = Tuning(folder / "cache", num_threads=1)
    backend = open_backend("openvino", precision=options.precision, tuning=tuning)
    engines = {FULL: backend.compile(clip_image_graph(spec))}
    chosen = {way: each for way, each in ways(ImageArch.of(spec.arch)).items() if options.ways in way}
    engines |= {way: compile_lean(spec, each, backend) for way, each in chosen.items()}
    height, width = spec.arch.image_size_px
    noise = np.random.default_rng(0).integers(0, 256, (BATCHES[name], height, width, 3), dtype=np.uint8)
    programs: dict[str, Program] = {way: partial(_run, engine, noise) for way, engine in engines.items()}
    timed = interleave(programs, num_rounds=options.rounds)
    least = {way: min(each["rounds_cpu_s"]) for way, each in timed.items()}
    rows: dict[str, Any] = {
        way: {"ms_per_image": round(1000 * each / BATCHES[name], 2), "speed": round(least[FULL] / each, 2)}
        for way, each in least.items()
    }
    if name == MINI:
        for way, found in judge(spec, engines, tuning, options.scenes).items():
            rows[way] |= found
    return rows


def _run(engine: Engine, pixels: NDArray[np.uint8], number: int = 0) -> NDArray[np.float32]:
    del number
    return np.asarray(engine.run({"pixels": pixels})["image_embedding"], np.float32)


def judge(
    spec: ClipSpec, engines: Mapping[str, Engine], tuning: Tuning, num_scenes: int
) -> dict[str, dict[str, float]]:
    """What each engine does to the scores of fresh scenes."""
    pairs = list(draw_pairs(num_scenes, SEED))
    preprocess = PreprocessSpec.from_config(spec.arch.preprocess_config)
    fitted = [fit_pixels(pair.image, preprocess) for pair in pairs]
    _, text = open_ours({}, "fp32", tuning)
    captions = embed(text, list(dict.fromkeys(pair.truth for pair in pairs))[:NUM_CAPTIONS])
    truths, foils = (embed(text, texts) for texts in zip(*((pair.truth, pair.foil) for pair in pairs), strict=True))
    images = {way: _embed(engine, fitted) for way, engine in engines.items()}
    found: dict[str, dict[str, float]] = {}
    for way, vectors in images.items():
        above = np.sum(vectors * (truths - foils), axis=1) > 0
        alone = _embed(engines[way], fitted[:NUM_ALONE], at_once=1)
        found[way] = {
            **compare(images[FULL], vectors, captions),
            "true_above_foil": round(float(above.mean()), 4),
            "largest_move_by_neighbours": float(f"{np.abs((vectors[:NUM_ALONE] - alone) @ captions.T).max():.1e}"),
        }
    return found


def _embed(engine: Engine, fitted: Sequence[Any], *, at_once: int = 32) -> NDArray[np.float64]:
    parts = [_run(engine, np.stack(fitted[first : first + at_once])) for first in range(0, len(fitted), at_once)]
    return np.concatenate(parts).astype(float)


def main() -> None:
    """Measure, print, and write where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--ways", default="", help="only those whose names hold this")
    parser.add_argument("--only", choices=list(BATCHES), help="one architecture")
    add_out(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases: dict[str, Any] = {}
    for name in [options.only] if options.only else list(BATCHES):
        with tempfile.TemporaryDirectory() as folder:
            cases[name] = measure(name, Path(folder), options)
    report("leaner_towers", cases, out=options.out)


if __name__ == "__main__":
    main()
