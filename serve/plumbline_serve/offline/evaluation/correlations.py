"""Suites that hold scores against ratings: TIFA160, GenAI-Bench, KonIQ-10k, Flickr8K-Expert."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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
from plumbline_serve.offline.evaluation.metrics import best_tied_accuracy, kendall, pearson, spearman

ALIGNMENT = ("vqascore", "clipscore", "fclipscore", "pickscore", "hpsv2", "imagereward", "hpsv3")
PERCENT = 100.0
_VQASCORE = "arXiv:2404.01291"
_TIFA_MODELS = {
    "mini-dalle": "mini_dalle",
    "vq-diffusion": "vq_diffusion",
    "sd1dot5": "stable_diffusion_v1_5",
    "sd2dot1": "stable_diffusion_v2_1",
    "sd1dot1": "stable_diffusion_v1_1",
}


@dataclass(slots=True)
class _Rated:
    """Rows with what people gave them."""

    rows: RowList = field(default_factory=RowList)
    ratings: list[float] = field(default_factory=list)

    def add(self, image: Path, text: str | None, rating: float, references: Sequence[str] = ()) -> None:
        self.rows.add(image, text, references)
        self.ratings.append(rating)

    def of(self, results: Sequence[Result | None]) -> tuple[Any, Any]:
        """Scores and ratings of the rows that have a score."""
        scores, ratings = values(results, range(len(results))), np.array(self.ratings)
        has_score = ~np.isnan(scores)
        return scores[has_score], ratings[has_score]

    def alignment(self, _scorer: str, results: Sequence[Result | None]) -> list[Figure]:
        """What VQAScore's program reports of prompts and images, in percent."""
        scores, ratings = self.of(results)
        accuracy, _ = best_tied_accuracy(scores, ratings)
        return [
            Figure("pairwise accuracy", PERCENT * accuracy, len(scores)),
            Figure("Pearson", PERCENT * pearson(scores, ratings), len(scores)),
            Figure("Kendall tau-b", PERCENT * kendall(scores, ratings, "b"), len(scores)),
        ]

    def quality(self, _scorer: str, results: Sequence[Result | None]) -> list[Figure]:
        scores, ratings = self.of(results)
        return [
            Figure("SRCC", spearman(scores, ratings), len(scores)),
            Figure("PLCC", pearson(scores, ratings), len(scores)),
        ]

    def captions(self, _scorer: str, results: Sequence[Result | None]) -> list[Figure]:
        scores, ratings = self.of(results)
        return [Figure("Kendall tau-c", PERCENT * kendall(scores, ratings, "c"), len(scores))]


class Tifa160:
    """160 prompts by five generators, rated by five people each; in the layout of the program of VQAScore."""

    name = "tifa160"
    title = "TIFA160, arXiv:2303.11897, ratings of arXiv:2310.18235"
    scorers = ALIGNMENT
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("vqascore", "pairwise accuracy"): (
            Published(71.2, f"CLIP-FlanT5 XXL, {_VQASCORE}"),
            Published(68.8, f"XL, {_VQASCORE}"),
        )
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `tifa160.json`, `dsg_tifa160_anns.csv`, and the images in `tifa160/`."""
        path = find(folder, "tifa160.json")
        lines = read_csv(find(folder, "dsg_tifa160_anns.csv"), "model_type", "source_id", "answer")
        images = find(folder, "tifa160")
        items = read_json(path)
        try:
            answers: dict[str, list[float]] = {}
            for line in lines:
                key = f"{line['source_id']}_{_TIFA_MODELS[line['model_type']]}"
                answers.setdefault(key, []).append(float(line["answer"]))
            rated = _Rated()
            for key, item in items.items():
                rated.add(images / item["image_path"], str(item["text"]), float(np.mean(answers[key])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise misfit(path, error) from error
        return Cases(rated.rows.rows, rated.alignment)


class GenAiBench:
    """Prompts by six generators, three ratings each: 527 of VQAScore's paper, or 1,600 of GenAI-Bench's."""

    name = "genai-bench"
    title = "GenAI-Bench images, arXiv:2406.13743"
    scorers = ALIGNMENT
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("vqascore", "pairwise accuracy"): (
            Published(64.1, "CLIP-FlanT5 XXL, 1,600 prompts, t2v_metrics"),
            Published(61.8, "XL, t2v_metrics"),
        )
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `genai_image.json`, and beside it a folder of `PROMPT.jpeg` per generator."""
        path = find(folder, "genai_image.json")
        rated = _Rated()
        try:
            items = read_json(path)
            models = dict.fromkeys(model for item in items.values() for model in item["models"])
            for model in models:
                for key, item in items.items():
                    if (ratings := item["models"].get(model)) is not None:
                        image = path.parent / model / f"{key}.jpeg"
                        rated.add(image, str(item["prompt"]), float(np.mean(ratings)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise misfit(path, error) from error
        return Cases(rated.rows.rows, rated.alignment)


class KonIq10k:
    """10,073 photographs with mean opinion scores; all of them, without a split, at the size that is there."""

    name = "koniq10k"
    title = "KonIQ-10k, arXiv:1910.06180"
    scorers = ("qualiclip", "aesthetic", "integrity", "probe")
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("qualiclip", "SRCC"): (Published(0.817, "QualiCLIP, test splits, 512x384, arXiv:2403.11176"),)
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `koniq10k_scores_and_distributions.csv`, and `512x384/` or `1024x768/`."""
        path = find(folder, "koniq10k_scores_and_distributions.csv")
        images = find(folder, "512x384", "1024x768")
        rated = _Rated()
        try:
            for line in read_csv(path, "image_name", "MOS_zscore"):
                rated.add(images / line["image_name"], None, float(line["MOS_zscore"]))
        except ValueError as error:
            raise misfit(path, error) from error
        return Cases(rated.rows.rows, rated.quality)


class Flickr8kExpert:
    """5,664 captions rated by three experts each; every rating counts by itself, as in CLIPScore's program."""

    name = "flickr8k-expert"
    title = "Flickr8K-Expert, ratings of Hodosh et al. 2013"
    scorers = ("clipscore", "refclipscore", "vqascore", "fclipscore")
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("clipscore", "Kendall tau-c"): (Published(51.2, "ViT-B/32, arXiv:2104.08718"),),
        ("refclipscore", "Kendall tau-c"): (Published(53.0, "ViT-B/32, arXiv:2104.08718"),),
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `flickr8k.json` with paths of images seen from its folder, or the corpus that it is of."""
        path = find(folder, "flickr8k.json", "ExpertAnnotations.txt")
        rated = _Rated()
        try:
            judged = _corpus(path, folder) if path.suffix == ".txt" else read_json(path)
            for item in judged.values():
                references = [" ".join(each.split()) for each in item["ground_truth"]]
                for judgement in item["human_judgement"]:
                    rating = float(judgement["rating"])
                    if not math.isnan(rating):
                        caption = " ".join(judgement["caption"].split())
                        rated.add(path.parent / item["image_path"], caption, rating, references)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise misfit(path, error) from error
        return Cases(rated.rows.rows, rated.captions)


def _corpus(path: Path, folder: Path | None) -> dict[str, dict[str, Any]]:
    """What CLIPScore's program writes to `flickr8k.json`, from the corpus: captions of the image itself are left out.

    Args:
        path: `ExpertAnnotations.txt`: image, caption's id and three ratings in each line.
        folder: Where captions and images are.
    """
    captions = dict(_tabbed(find(folder, "Flickr8k.token.txt"), 2))
    references: dict[str, list[str]] = {}
    for caption_id, caption in captions.items():
        references.setdefault(caption_id.partition("#")[0], []).append(caption)
    images = find(folder, "Flicker8k_Dataset", "Flickr8k_Dataset")
    judged: dict[str, dict[str, Any]] = {}
    for image, caption_id, *ratings in _tabbed(path, 5):
        caption = captions[caption_id]
        if caption not in references[image]:
            item = judged.setdefault(
                image, {"image_path": images / image, "ground_truth": references[image], "human_judgement": []}
            )
            item["human_judgement"] += [{"caption": caption, "rating": rating} for rating in ratings]
    return judged


def _tabbed(path: Path, num_fields: int) -> list[list[str]]:
    """Fields of each line.

    Raises:
        ValueError: A line has another number of them, or is not UTF-8.
    """
    lines = [line.strip().split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if wrong := [line for line in lines if len(line) != num_fields]:
        raise ValueError(f"a line of {len(wrong[0])} fields, not {num_fields}")
    return lines
