"""`plumbline probe`: whether scorers hear what a caption says, or a bag of its words."""

import asyncio
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Column, Table

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.protocols import Score
from plumbline_models.text.probes import CHANGING, KEEPING, Probe, probed
from plumbline_serve.assembly import assembled
from plumbline_serve.cli.results import literally, show_json, show_table
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreRequest
from plumbline_serve.requests.service import CoreService
from plumbline_serve.settings import Settings

CHUNK: Final = 64  # items per request
OVERSTABLE_BELOW: Final = 0.75  # of captions above what they do not mean: half way from chance to all
OVERSENSITIVE_ABOVE: Final = 0.25  # of a standard deviation, for the same meaning
_LEAST: Final = 2  # captions, for a spread


@dataclass(frozen=True, slots=True)
class Captioned:
    """An image and its caption."""

    image: bytes
    caption: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What one scorer hears of one probe."""

    scorer: str
    probe: Probe
    num: int
    """Captions that the probe can change."""
    right_above: float
    """Share of them that score above their changed form; 0.5 is chance."""
    change: float
    """Mean fall of the score, in standard deviations over the captions; of its size, where the meaning stays."""
    verdict: str
    """`overstable`, `oversensitive`, or empty."""


def read_pairs(file: Path) -> list[Captioned]:
    """The pairs of a CSV or JSONL file with `image` and `text`; paths are as seen from the file.

    Raises:
        InvalidFieldError: It has none, or a row lacks one of the two.
        OSError: It cannot be read, or an image cannot.
    """
    pairs = []
    for number, row in enumerate(_rows(file), start=1):
        if not isinstance(row.get("image"), str) or not isinstance(row.get("text"), str):
            raise InvalidFieldError(f"Row {number} of {file} has no image or no text.")
        pairs.append(Captioned((file.parent / row["image"]).read_bytes(), row["text"]))
    if len(pairs) < _LEAST:
        raise InvalidFieldError(f"{file} has {len(pairs)} rows; at least {_LEAST} are needed.")
    return pairs


def in_process(pairs: Sequence[Captioned], settings: Settings, scorers: str | None = None) -> list[Heard]:
    """Score captions and their changed forms, without a server.

    Args:
        pairs: Images with true captions.
        settings: Which scorers, and how.
        scorers: Names with commas in between; None: every loaded one that looks at the text.
    """
    return asyncio.run(_in_process(pairs, settings, scorers))


async def _in_process(pairs: Sequence[Captioned], settings: Settings, scorers: str | None) -> list[Heard]:
    known = make_scorers(settings)
    names = [name.strip() for name in scorers.split(",")] if scorers else list(known)
    chosen = {name: known[name] for name in names if name in known and known[name].info.needs == {"image", "text"}}
    if not chosen:
        raise InvalidFieldError("No scorer among these is one of an image and a text alone.")
    async with assembled(settings, chosen) as assembly:
        return await heard(assembly.service, pairs, {n: s.info.higher_is_better for n, s in chosen.items()})


async def heard(service: CoreService, pairs: Sequence[Captioned], scorers: Mapping[str, bool]) -> list[Heard]:
    """What scorers hear.

    Args:
        service: Has them.
        pairs: Images with true captions.
        scorers: Whether a higher value is better, by name.
    """
    changed = [probed(pair.caption) for pair in pairs]
    items = [Item(f"{i} true", EncodedImage(pair.image), pair.caption) for i, pair in enumerate(pairs)]
    for index, (pair, forms) in enumerate(zip(pairs, changed, strict=True)):
        items += [Item(f"{index} {probe}", EncodedImage(pair.image), text) for probe, text in forms.items()]
    values: dict[str, dict[str, float]] = {name: {} for name in scorers}
    for first in range(0, len(items), CHUNK):
        reply = await service.score(ScoreRequest(items[first : first + CHUNK], scorers=list(scorers)))
        for result in reply.results:
            scores = result.scores if isinstance(result, ItemScores) else {}
            for name, score in scores.items():
                if isinstance(score, Score):
                    values[name][result.id] = score.value
    return [each for name, is_up in scorers.items() for each in _of_scorer(name, values[name], is_up=is_up)]


def _of_scorer(name: str, values: Mapping[str, float], *, is_up: bool) -> Iterator[Heard]:
    true = [value for key, value in values.items() if key.endswith(" true")]
    mean = math.fsum(true) / max(1, len(true))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in true) / max(1, len(true) - 1)) or 1.0
    sign = 1.0 if is_up else -1.0
    for probe in (*CHANGING, *KEEPING):
        indices = [key.partition(" ")[0] for key in values if key.endswith(f" {probe}")]
        falls = [
            sign * (values[f"{index} true"] - values[f"{index} {probe}"])
            for index in indices
            if f"{index} true" in values
        ]
        if falls:
            yield _judged(name, probe, [fall / deviation for fall in falls])


def _judged(name: str, probe: Probe, falls: Sequence[float]) -> Heard:
    right = sum(fall > 0 for fall in falls) / len(falls) + sum(fall == 0 for fall in falls) / (2 * len(falls))
    is_changing = probe in CHANGING
    change = math.fsum(falls if is_changing else map(abs, falls)) / len(falls)
    verdict = ""
    if is_changing and right < OVERSTABLE_BELOW:
        verdict = "overstable"
    elif not is_changing and change > OVERSENSITIVE_ABOVE:
        verdict = "oversensitive"
    return Heard(name, probe, len(falls), right, change, verdict)


def show(found: Sequence[Heard], *, as_json: bool) -> int:
    """Print the table.

    Args:
        found: What was heard.
        as_json: For programs.

    Returns:
        The exit status.
    """
    if as_json:
        show_json({"probes": [asdict(each) for each in found]})
        return 0
    right = [Column(name, justify="right") for name in ("captions", "right above", "change (sd)")]
    table = Table(Column("scorer"), Column("probe"), *right, Column(""))
    for each in found:
        numbers = (str(each.num), f"{each.right_above:.2f}", f"{each.change:.2f}")
        table.add_row(literally(each.scorer), each.probe, *numbers, each.verdict)
    show_table(table)
    return 0


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix.lower() == ".csv":
        yield from csv.DictReader(io.StringIO(text, newline=""))
        return
    for number, line in enumerate(text.split("\n"), start=1):  # JSON may hold other separators of lines
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidFieldError(f"Line {number} of {file} is no JSON.") from error
            yield row if isinstance(row, dict) else {}
