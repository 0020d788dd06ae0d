"""What requests gain where they share inputs.

    python -m loadtests.service.sharing [--rounds 5] [--out FILE]

ViT-B/32 with random weights, clipscore and fclipscore, over REST, one client. `best_of_16`: 16 images and one prompt
in one request, against 16 requests of one pair each, that repeat the prompt. `texts_32`: one image and 32 texts,
likewise. `again`: a request of one pair that was sent before, against one that was not. All images and texts of a
round are new to the service; the cases take turns. In the first two cases encodings are not kept, so that what is
shared is shared within a request, as for a service that is called this once.
"""

import argparse
import asyncio
import itertools
import json
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from loadtests.service.images import captions, draw_images
from loadtests.service.load_generators import form, send_rest
from loadtests.service.random_clip import ARCH, write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import NOTHING_KEPT, running, workplace

NUM_IMAGES, NUM_TEXTS = 16, 32
SCORERS = ("clipscore", "fclipscore")
Bodies = Mapping[str, list[bytes]]


def main() -> None:
    parser = argparse.ArgumentParser(description="What requests gain where they share inputs.")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    with workplace() as folder:
        _, checkpoint = write_config(folder)
        section = f"{{arch: {ARCH}, checkpoint: {checkpoint}}}"
        scorers = ", ".join(f"{scorer}: {section}" for scorer in SCORERS)
        config = f"cache_dir: {folder / 'engines'}\nscorers: {{{scorers}}}\n"
        with running(config, NOTHING_KEPT) as service:
            cases = {
                "best_of_16": measure(service.port, best_of_16(), options.rounds),
                "texts_32": measure(service.port, texts_32(), options.rounds),
            }
        with running(config, {}) as service:
            cases["again"] = measure(service.port, again(), options.rounds)
    report({"cases": cases}, out=options.out)


def best_of_16() -> Iterator[Bodies]:
    """Rounds of one prompt and 16 images."""
    texts = captions()
    for parts in draw_images(NUM_IMAGES, is_new=True):
        text = next(texts)
        pairs = [(name, text) for name in parts]
        yield {"together": [_body(pairs, parts)], "apart": [_body([pair], {pair[0]: parts[pair[0]]}) for pair in pairs]}


def texts_32() -> Iterator[Bodies]:
    """Rounds of one image and 32 texts."""
    texts = captions()
    for parts in draw_images(1, is_new=True):
        pairs = [(next(iter(parts)), text) for text in itertools.islice(texts, NUM_TEXTS)]
        yield {"together": [_body(pairs, parts)], "apart": [_body([pair], parts) for pair in pairs]}


def again() -> Iterator[Bodies]:
    """Rounds of one pair; the case that comes second has been answered before."""
    texts = captions()
    for parts in draw_images(1, is_new=True):
        body = _body([(next(iter(parts)), next(texts))], parts)
        yield {"apart": [body], "together": [body]}


def _body(pairs: list[tuple[str, str]], parts: Mapping[str, bytes]) -> bytes:
    items = [{"image": {"part": name}, "text": text} for name, text in pairs]
    return form({"request": json.dumps({"items": items, "scorers": SCORERS}).encode()}, parts)


def measure(port: int, rounds: Iterator[Bodies], num_rounds: int) -> dict[str, Any]:
    """How long each way takes, in turn, and how many times longer one request for each takes."""
    seconds: dict[str, list[float]] = {"together": [], "apart": []}
    for number, bodies_of in enumerate(itertools.islice(rounds, num_rounds + 1)):  # the first warms up
        for case, bodies in bodies_of.items():
            window = asyncio.run(send_rest(port, iter(bodies), num_requests=len(bodies), num_clients=1))
            if number:
                seconds[case].append(window.seconds)
    medians = {case: statistics.median(found) for case, found in seconds.items()}
    return {"ratio": round(medians["apart"] / medians["together"], 2), "median_s": medians, "rounds_s": seconds}


if __name__ == "__main__":
    main()
