"""What each backend and precision does to preference scores: `python -m loadtests.scorers.preference_precision`.

Against the float64 numbers of `tests/golden/preference`, on weights that are rebuilt here: the largest error over all
texts and images, the least Spearman's correlation over the images of a text, and for how many texts another image comes
first.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from loadtests.goldens.preference.aesthetic import build_aesthetic
from loadtests.goldens.preference.clips import build_hpsv2, build_pickscore
from loadtests.goldens.preference.drawing import image, record
from loadtests.goldens.preference.hps_v3 import build_hpsv3
from loadtests.goldens.preference.image_reward import build_image_reward
from loadtests.scorers.product import encode, open_context
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score, Scorer
from plumbline_models.scorers.hpsv2 import HpsV2
from plumbline_models.scorers.hpsv3 import HpsV3
from plumbline_models.scorers.imagereward import ImageReward
from plumbline_models.scorers.pickscore import PickScore
from plumbline_models.scorers.probe import Aesthetic

BACKENDS: Final = ("torch", "openvino")
PRECISIONS: Final = ("fp32", "bf16")


def by_captions(scorer: Any, images: list[str], texts: list[str]) -> NDArray[np.float64]:
    """`[texts, images]`: scores of a scorer that compares encodings of both."""
    encoded = encode(scorer.image, [scorer.image.preprocess(image(name)) for name in images])
    rows = []
    for text in texts:
        [caption] = encode(scorer.text, [scorer.text.preprocess(text)])
        rows.append(_values(scorer, Embedded(images=encoded, captions=[caption] * len(images))))
    return np.array(rows)


def by_pairs(scorer: Any, images: list[str], texts: list[str]) -> NDArray[np.float64]:
    """`[texts, images]`: scores of a scorer that reads text and image together."""
    encoded = [encode(scorer.image, [scorer.image.preprocess(image(name))])[0] for name in images]
    pairs = [scorer.pair.preprocess(PairInput(text, tokens)) for text in texts for tokens in encoded]
    return np.array(_values(scorer, Embedded(pairs=encode(scorer.pair, pairs)))).reshape(len(texts), len(images))


def measure(name: str, folder: Path, context: BuildContext) -> list[dict[str, Any]]:
    """One scorer under one backend and precision."""
    if name == "aesthetic":
        build_aesthetic(folder)
        return [_measure_aesthetic(head, folder, context) for head in ("linear", "relu", "v2_5")]
    build, scorer_class, score = SCORERS[name]
    golden = record(name)
    matrix = golden["matrix"]
    scorer = _loaded(scorer_class.build({"model": str(build(folder))}, context))
    found = score(scorer, matrix["images"], [entry["text"] for entry in golden["texts"]])
    expected = np.array(matrix[next(key for key in ("score_f64", "reward_f64", "mu_f64") if key in matrix)])
    first = matrix.get("rgb_first", {"images": []})
    for place, each in enumerate(first["images"]):  # the service makes images RGB before it resizes them
        expected[:, matrix["images"].index(each)] = np.array(first["reward_f64_rgb_first"])[:, place]
    return [_compare(found, expected)]


def _measure_aesthetic(head: str, folder: Path, context: BuildContext) -> dict[str, Any]:
    tower = folder / ("siglip" if head == "v2_5" else "clip")
    options = {"encoder": {"checkpoint": str(tower)}, "weights": str(folder / f"{head}.pth")}
    scorer: Any = _loaded(Aesthetic.build(options, context))
    golden = record("aesthetic_v2_5" if head == "v2_5" else "aesthetic")["end_to_end"]
    key = "score_f64" if head == "v2_5" else f"{head}_f64"
    expected = dict(zip(golden["images"], golden[key], strict=True))
    if head != "v2_5":
        expected |= dict(zip(golden["rgb_first"]["images"], golden["rgb_first"][key], strict=True))
    encoded = encode(scorer.image, [scorer.image.preprocess(image(name)) for name in expected])
    found = _values(scorer, Embedded(images=encoded))
    return {"head": head, **_compare(np.array([found]), np.array([list(expected.values())]))}


def _compare(found: NDArray[np.float64], expected: NDArray[np.float64]) -> dict[str, Any]:
    orders = [spearmanr(ours, theirs).statistic for ours, theirs in zip(found, expected, strict=True)]
    return {
        "largest_error": float(f"{np.abs(found - expected).max():.1e}"),
        "mean_error": float(f"{np.abs(found - expected).mean():.1e}"),
        "least_spearman": round(float(min(orders)), 4),
        "texts_with_another_first_image": int((found.argmax(1) != expected.argmax(1)).sum()),
    }


def _loaded(scorer: Scorer) -> Scorer:
    for encoder in (scorer.image, scorer.text, scorer.pair):
        if encoder is not None:
            encoder.load()
    return scorer


def _values(scorer: Scorer, batch: Embedded) -> list[float]:
    return [answer.value for answer in scorer.score(batch) if isinstance(answer, Score)]


SCORERS: Mapping[str, tuple[Callable[[Path], Path], type[Scorer], Callable[..., NDArray[np.float64]]]] = {
    "pickscore": (build_pickscore, PickScore, by_captions),
    "hpsv2": (build_hpsv2, HpsV2, by_captions),
    "imagereward": (build_image_reward, ImageReward, by_pairs),
    "hpsv3": (build_hpsv3, HpsV3, by_pairs),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scorers", nargs="*", default=[*SCORERS, "aesthetic"])
    torch.set_num_threads(1)
    for name in parser.parse_args().scorers:
        for backend in BACKENDS:
            for precision in PRECISIONS:
                with tempfile.TemporaryDirectory() as folder:
                    context = open_context(backend, precision=precision, cache_dir=Path(folder) / "engines")
                    for row in measure(name, Path(folder), context):
                        print(name, backend, precision, row, flush=True)


if __name__ == "__main__":
    main()
