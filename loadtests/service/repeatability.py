"""Whether a decision repeats: the same pictures submitted again among other neighbours, and encoded anew.

python -m loadtests.service.repeatability [--config FILE]

Nothing is kept between requests, so that each submission is computed. Of each scorer the threshold is the median of the
first values (of `clipscore` of the cosines): as near as a threshold can be. A picture flips where its submissions are
not all decided alike; `near` counts the pictures whose first value is among the tenth that is nearest to the threshold.
"""

import argparse
import io
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from PIL import Image as Pictures

from loadtests.service.images import captions, image_of
from plumbline_client import Image, Item, ItemResult
from plumbline_models.decisions.repeatability import flip_rate, pass_at_k, pass_hat_k
from plumbline_serve.local import Plumbline
from plumbline_serve.settings import CacheSettings, Settings, load_settings

NUM_PICTURES: Final = 128
NUM_SUBMISSIONS: Final = 8
SCORERS: Final = ("clipscore", "qualiclip")
K: Final = 4
_JPEG_QUALITIES: Final = range(88, 96)
_LARGEST_REQUEST: Final = 24
Encode = Callable[[bytes, int], bytes]
"""A picture's file and the number of the submission to the file that is submitted."""


def _as_jpeg(content: bytes, number: int) -> bytes:
    out = io.BytesIO()
    quality = _JPEG_QUALITIES[number % len(_JPEG_QUALITIES)]
    Pictures.open(io.BytesIO(content)).convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def _without_loss(content: bytes, number: int) -> bytes:
    out = io.BytesIO()
    kind: Mapping[str, Any] = {"format": "WEBP", "lossless": True} if number % 2 else {"format": "PNG"}
    Pictures.open(io.BytesIO(content)).convert("RGB").save(out, **kind)
    return out.getvalue()


SUBMISSIONS: Mapping[str, Encode] = {
    "the same bytes": lambda content, _: content,
    "encoded anew without loss": _without_loss,
    "as JPEG of quality 88 to 95": _as_jpeg,
}


def _values(service: Plumbline, files: Sequence[bytes], texts: Sequence[str], seed: int) -> list[dict[str, float]]:
    """The values of each picture, in requests of random sizes and in random order."""
    chance = random.Random(seed)  # noqa: S311 - the same neighbours in every run  # nosec B311
    order, found = list(range(len(files))), dict[int, dict[str, float]]()
    chance.shuffle(order)
    while order:
        part = [order.pop() for _ in range(min(len(order), chance.randint(1, _LARGEST_REQUEST)))]
        reply = service.score([Item(Image.data(files[at]), texts[at]) for at in part], scorers=SCORERS)
        found |= {at: {s: _value(each, s) for s in SCORERS} for at, each in zip(part, reply.results, strict=True)}
    return [found[at] for at in range(len(files))]


def _value(result: ItemResult, scorer: str) -> float:
    """The cosine where there is one: values that were floored at 0 would all be alike."""
    cosine = result.scores[scorer].cosine
    return result.value(scorer) if cosine is None else cosine


def _row(kind: str, scorer: str, submitted: Sequence[Sequence[dict[str, float]]]) -> str:
    values = np.array([[each[scorer] for each in round_] for round_ in submitted]).T
    threshold = median(values[:, 0].tolist())
    decisions = (values >= threshold).tolist()
    near = np.argsort(np.abs(values[:, 0] - threshold))[: len(values) // 10]
    passed = [sum(each) for each in decisions]
    n = len(submitted)
    any_of_k, all_of_k = (np.mean([p(n, each, K) for each in passed]) for p in (pass_at_k, pass_hat_k))
    spread = float(np.max(values.max(axis=1) - values.min(axis=1)))
    flips, near_flips = flip_rate(decisions), flip_rate([decisions[at] for at in near])
    return f"| {kind} | `{scorer}` | {spread:.2g} | {flips:.3f} | {near_flips:.3f} | {any_of_k:.3f} | {all_of_k:.3f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="a configuration with these scorers; default: embedded networks")
    parser.add_argument("--pictures", type=int, default=NUM_PICTURES)
    options = parser.parse_args()
    settings = load_settings(options.config) if options.config else Settings(scorers={name: {} for name in SCORERS})
    nothing = CacheSettings.model_validate({f"{kind}_bytes": 0 for kind in ("image", "text", "pair")})
    files = [image_of(seed) for seed in range(options.pictures)]
    texts = list(islice(captions(), len(files)))
    print(f"| submitted | scorer | widest spread of a picture | flips | near | pass@{K} | pass^{K} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with Plumbline(settings.model_copy(update={"caches": nothing})) as service:
        for kind, encode in SUBMISSIONS.items():
            rounds = [[encode(each, number) for each in files] for number in range(NUM_SUBMISSIONS)]
            submitted = [_values(service, each, texts, number) for number, each in enumerate(rounds)]
            for scorer in SCORERS:
                print(_row(kind, scorer, submitted), flush=True)


if __name__ == "__main__":
    main()
