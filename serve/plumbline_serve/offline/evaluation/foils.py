"""Suites of captions with one wrong word: FOIL, nocaps-FOIL, and drawn scenes."""

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.evaluation.cases import (
    Cases,
    Figure,
    Published,
    Result,
    RowList,
    find,
    misfit,
    read_json,
    values,
)
from plumbline_serve.offline.evaluation.metrics import average_precision

SCENES = Path(__file__).with_name("scenes.tar")
SCORERS = ("fclipscore", "clipscore", "vqascore")
_PAPER = "arXiv:2412.18404"
_EDGES = ".,;:!?\"'()[]"
THRESHOLD = 0.5


@dataclass(slots=True)
class _Foils:
    """True captions and foils; of each foil the word that is wrong."""

    rows: RowList = field(default_factory=RowList)
    wrong: dict[int, str] = field(default_factory=dict)

    def add(self, image: Path, caption: str, wrong_word: str | None) -> None:
        number = self.rows.add(image, caption.strip())
        if wrong_word is not None:
            self.wrong[number] = wrong_word.strip().lower()

    def judge(self, scorer: str, results: Sequence[Result | None]) -> list[Figure]:
        """Average precision of true captions before foils and, where words are judged, whether the lowest is wrong.

        By the authors' program: of F-CLIPScore's words the lowest alone makes the value, and a wrong part of several
        words is never found.
        """
        judged = [None if each is None else _lowest_word(each) for each in results]
        if scorer == "fclipscore":
            scores = np.array([np.nan if each is None else _by_lowest(each) for each in results])
        else:
            scores = values(results, range(len(results)))
        is_there = ~np.isnan(scores)
        is_true = np.array([number not in self.wrong for number in range(len(results))])
        figures = [Figure("AP", average_precision(scores[is_there], is_true[is_there]), int(is_there.sum()))]
        if scorer == "fclipscore":
            found = [judged[number] == word for number, word in self.wrong.items() if judged[number] is not None]
            figures.insert(0, Figure("LA", float(np.mean(found)) if found else float("nan"), len(found)))
        return figures


class Foil:
    """Captions of MS COCO 2014, true and with one noun replaced."""

    name = "foil"
    title = "FOIL, arXiv:1705.01359"
    scorers = SCORERS
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("fclipscore", "LA"): (Published(0.73, f"B/32, {_PAPER}"), Published(0.84, f"H/14, {_PAPER}")),
        ("fclipscore", "AP"): (Published(0.71, f"B/32, {_PAPER}"), Published(0.81, f"H/14, {_PAPER}")),
        ("clipscore", "AP"): (Published(0.71, f"B/32, {_PAPER}"), Published(0.76, f"H/14, {_PAPER}")),
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `foilv1.0_test_2017.json`, and the images of COCO in `val2014/`."""
        path = find(folder, "foilv1.0_test_2017.json")
        images = find(folder, "val2014")
        foils = _Foils()
        try:
            document = read_json(path)
            names = {image["id"]: image["file_name"] for image in document["images"]}
            for each in document["annotations"]:
                wrong = None if each["foil_word"].strip().lower() == "orig" else each["foil_word"]
                foils.add(images / names[each["image_id"]], each["caption"], wrong)
        except (KeyError, TypeError, AttributeError) as error:
            raise misfit(path, error) from error
        return Cases(foils.rows.rows, foils.judge)


class NocapsFoil:
    """Captions of nocaps, true and with one object replaced."""

    name = "nocaps-foil"
    title = "nocaps-FOIL, arXiv:2404.02904"
    scorers = SCORERS
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("fclipscore", "LA"): (Published(0.60, f"B/32, {_PAPER}"), Published(0.72, f"H/14, {_PAPER}")),
        ("fclipscore", "AP"): (Published(0.69, f"B/32, {_PAPER}"), Published(0.80, f"H/14, {_PAPER}")),
        ("clipscore", "AP"): (Published(0.69, f"B/32, {_PAPER}"), Published(0.72, f"H/14, {_PAPER}")),
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`: `nocaps-val-foil.json`, and the images in `nocaps/` or `val/`."""
        path = find(folder, "nocaps-val-foil.json")
        images = find(folder, "nocaps", "val")
        foils = _Foils()
        try:
            for each in read_json(path):
                image = images / each["image_path"]
                before, after = each["replacement"]
                foils.add(image, each["foil"], None if after == before else after)
                foils.add(image, each["baseline"], None)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise misfit(path, error) from error
        return Cases(foils.rows.rows, foils.judge)


@dataclass(frozen=True, slots=True)
class _Scene:
    """The rows of a true caption and of its foil."""

    kind: str
    true: int
    false: int
    changed: Sequence[tuple[int, int]]


class Scenes:
    """Drawn scenes that ship with the service, by a renderer that the embedded networks never saw in training."""

    name = "scenes"
    title = "drawn scenes of the embedded networks' world"
    scorers = ("clipscore", "vqascore", "fclipscore")
    published: Mapping[tuple[str, str], Sequence[Published]] = {
        ("clipscore", "true above foil"): (Published(0.97, "mini-clip, 2,000 scenes, docs/mini.md"),),
    }

    def read(self, folder: Path | None) -> Cases:
        """As `Suite.read`; without a folder those of the package.

        Args:
            folder: Holds another `scenes.tar`, by `loadtests.accuracy.write_scenes`.
        """
        path = SCENES if folder is None else find(folder, SCENES.name)
        rows, scenes = RowList(), []
        try:
            with tarfile.open(path) as tar:
                members = {member.name: tar.extractfile(member) for member in tar if member.isreg()}
                files = {name: file.read() for name, file in members.items() if file is not None}
            for key in sorted({name.partition(".")[0] for name in files}):
                labels = orjson.loads(files[f"{key}.json"])
                image, truth = files[f"{key}.jpg"], files[f"{key}.txt"].decode()
                changed = [(int(start), int(end)) for start, end in labels["changed"]]
                scenes.append(_Scene(labels["kind"], rows.add(image, truth), rows.add(image, labels["foil"]), changed))
        except (OSError, tarfile.TarError, KeyError, ValueError, TypeError) as error:
            raise InvalidFieldError(f"{path.name} holds no scenes.") from error
        return Cases(rows.rows, lambda scorer, results: _scene_figures(scenes, scorer, results))


def _scene_figures(scenes: Sequence[_Scene], scorer: str, results: Sequence[Result | None]) -> list[Figure]:
    scenes = [each for each in scenes if results[each.true] is not None and results[each.false] is not None]
    true, false = (values(results, [getattr(each, side) for each in scenes]) for side in ("true", "false"))
    is_right = true > false
    figures = [Figure("true above foil", float(is_right.mean()), len(scenes))]
    for kind in dict.fromkeys(each.kind for each in scenes):
        of_kind = np.array([each.kind == kind for each in scenes])
        figures.append(Figure(f"true above foil, {kind}", float(is_right[of_kind].mean()), int(of_kind.sum())))
    if scorer == "vqascore":
        parted = np.mean([true >= THRESHOLD, false < THRESHOLD])
        figures.append(Figure("0.5 parts true from foil", float(parted), 2 * len(scenes)))
    if scorer == "fclipscore":
        named = [each for each in scenes if each.kind in ("colour", "shape", "fill")]
        found = [_is_changed(results[each.false], each.changed) for each in named]
        share = float(np.mean(found)) if found else float("nan")
        figures.append(Figure("changed word lowest, colour shape fill", share, len(found)))
    return figures


def _is_changed(result: Result | None, changed: Sequence[tuple[int, int]]) -> bool:
    word = None if result is None else _lowest(result)
    return word is not None and any(word["start"] < end and word["end"] > start for start, end in changed)


def _lowest(result: Result) -> Mapping[str, Any] | None:
    read = [word for word in result.get("words") or () if word["attribution"] is not None]
    return min(read, key=lambda word: float(word["attribution"]), default=None)


def _lowest_word(result: Result) -> str | None:
    word = _lowest(result)
    return None if word is None else str(word["text"]).strip(_EDGES).lower()


def _by_lowest(result: Result) -> float:
    """The lowest attribution weighed by how little the whole fits."""
    word = _lowest(result)
    return float("nan") if word is None else float(word["attribution"]) * (1 - max(float(result["cosine"]), 0.0))
