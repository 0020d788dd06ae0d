"""Suites of choices: Winoground's images and captions, and HPDv2's ranked images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from plumbline_serve.offline.evaluation.cases import (
    Cases,
    Figure,
    Published,
    Result,
    RowList,
    find,
    misfit,
    read_csv,
    read_json,
    values,
)
from plumbline_serve.offline.evaluation.correlations import ALIGNMENT, PERCENT
from plumbline_serve.offline.evaluation.metrics import pair_accuracies, uninverted

_HPSV2 = "tgxs002/HPSv2"


class Winoground:
    """400 pairs of images and of captions with the same words."""

    name = "winoground"
    title = "Winoground, arXiv:2204.03162"
    scorers = ALIGNMENT
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("vqascore", "group"): (
            Published(46.0, "CLIP-FlanT5 XXL, arXiv:2404.01291"),
            Published(34.8, "XL, arXiv:2404.01291"),
        )
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `metadata.csv` of VQAScore's program, or `examples.jsonl` of the hub with its `images/`."""
        path = find(folder, "metadata.csv", "examples.jsonl")
        rows, squares = RowList(), []
        try:
            for each in _examples(path):
                images = [path.parent / each["image_0"], path.parent / each["image_1"]]
                captions = [each["caption_0"], each["caption_1"]]
                squares.append([[rows.add(image, caption) for caption in captions] for image in images])
        except (KeyError, TypeError, ValueError) as error:
            raise misfit(path, error) from error

        def judge(_scorer: str, results: Sequence[Result | None]) -> list[Figure]:
            numbers = np.array(squares).reshape(-1)
            scores = values(results, numbers.tolist()).reshape(-1, 2, 2)
            whole = scores[~np.isnan(scores).any(axis=(1, 2))]
            found = pair_accuracies(whole) if len(whole) else {}
            return [Figure(name, PERCENT * share, len(whole)) for name, share in found.items()]

        return Cases(rows.rows, judge)


class Hpdv2:
    """400 prompts, whose images ten people have ranked."""

    name = "hpdv2"
    title = "HPDv2 test, arXiv:2306.09341"
    scorers = ("pickscore", "hpsv2", "imagereward", "hpsv3", "aesthetic", "clipscore", "vqascore")
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("pickscore", "pairs in order"): (Published(79.8, _HPSV2), Published(79.2, "imscore")),
        ("hpsv2", "pairs in order"): (Published(83.3, f"v2.0, {_HPSV2}"), Published(84.1, f"v2.1, {_HPSV2}")),
        ("imagereward", "pairs in order"): (Published(74.0, _HPSV2),),
        ("aesthetic", "pairs in order"): (Published(76.8, _HPSV2), Published(73.6, "imscore")),
        ("clipscore", "pairs in order"): (Published(62.6, "imscore"),),
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `test.json` with `prompt`, `image_path` and `rank` of each, and the images in `test/`."""
        path = find(folder, "test.json")
        images = find(folder, "test")
        rows, items = RowList(), []
        try:
            for each in read_json(path):
                ranks = [float(rank) for rank in each["rank"]]
                numbers = [rows.add(images / name, str(each["prompt"])) for name in each["image_path"]]
                items.append(list(zip(numbers, ranks, strict=True)))
        except (KeyError, TypeError, ValueError) as error:
            raise misfit(path, error) from error

        def judge(_scorer: str, results: Sequence[Result | None]) -> list[Figure]:
            shares = []
            for item in items:
                scores = values(results, [number for number, _ in item])
                if len(item) > 1 and not np.isnan(scores).any():
                    shares.append(uninverted(scores.tolist(), [rank for _, rank in item]))
            mean = float(np.mean(shares)) if shares else float("nan")
            return [Figure("pairs in order", PERCENT * mean, len(shares))]

        return Cases(rows.rows, judge)


def _examples(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return [dict(line) for line in read_csv(path, "image_0", "image_1", "caption_0", "caption_1")]
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    for line in lines:
        for which in ("image_0", "image_1"):
            line[which] = f"images/{line[which]}.png"
    return lines
