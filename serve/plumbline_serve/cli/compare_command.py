"""`plumbline compare`: two outputs side by side, for people and for a gate of a continuous integration."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.cli.results import literally, show_json, show_table
from plumbline_serve.offline.comparison import Comparison, check_comparable, compare, pair_up
from plumbline_serve.offline.comparison.pairing import keys_of
from plumbline_serve.offline.outputs import ScoredTable, open_scored
from plumbline_serve.offline.report.comparison_page import HEAD, comparison_page, line, lost_notes
from plumbline_serve.offline.report.thumbnails import Thumbnails

OK, REGRESSED = 0, 1
TAG = "tag"
NUM_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Floors:
    """The least mean deltas that pass."""

    of_all: float | None = None
    by_scorer: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: Sequence[str]) -> "Floors":
        """Read numbers, or names with numbers.

        Raises:
            InvalidFieldError: One is neither.
        """
        of_all, by_scorer = None, {}
        for each in given:
            name, _, number = each.rpartition("=")
            try:
                floor = float(number)
            except ValueError as error:
                raise InvalidFieldError(f"--fail-below takes -0.01, or vqascore=-0.01; {each!r} is neither.") from error
            if name:
                by_scorer[name] = floor
            else:
                of_all = floor
        return cls(of_all, by_scorer)

    def broken(self, comparison: Comparison) -> list[str]:
        """What is below them, in sentences.

        Raises:
            InvalidFieldError: A scorer that one names was not compared.
        """
        found = {each.scorer: each for each in comparison.scorers}
        lost = [name for name in comparison.lost if self.of_all is not None or name in self.by_scorer]
        if missing := [name for name in self.by_scorer if name not in found and name not in lost]:
            raise InvalidFieldError(f"--fail-below names {missing[0]}, which was not compared.")
        floors = {name: self.by_scorer.get(name, self.of_all) for name in found}
        return [f"{name}: the second output has no value of it." for name in lost] + [
            f"{name}: mean delta {found[name].mean_delta:+.4g} is below {floor:+.4g}."
            for name, floor in floors.items()
            if floor is not None and not found[name].mean_delta >= floor
        ]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is compared, and how."""

    scorers: Sequence[str] | None = None
    keys: Sequence[str] | None = None
    tag: str | None = None
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, slots=True)
class Sides:
    """Two outputs."""

    before: ScoredTable
    after: ScoredTable

    @classmethod
    def open(cls, before: Path, after: Path) -> "Sides":
        """Open both.

        Raises:
            InvalidFieldError: One is no output of `plumbline batch`.
        """
        return cls(open_scored(before), open_scored(after))


def run(sides: Sides, choice: Choice) -> Comparison:
    """Pair rows and compare them.

    Args:
        sides: Both outputs.
        choice: What, and how.

    Raises:
        InvalidFieldError: They do not compare, or no rows belong together.
    """
    before, after = sides.before, sides.after
    names = check_comparable(before, after, choice.scorers)
    _warn(sides, names)
    tag = choice.tag or (TAG if TAG in before.names else None)
    if tag is not None and tag not in before.names:
        raise InvalidFieldError(f"{before.path.name} has no column {tag!r}.")
    keys = keys_of(before, after, choice.keys)
    pairs = pair_up(before, after, names=names, keys=keys, tag=tag)
    if not pairs.rows:
        raise InvalidFieldError(f"No rows of the two outputs have the same {' and '.join(keys) or 'place'}.")
    return compare(pairs, names, before.facts, seed=choice.seed, resamples=choice.resamples)


def show(comparison: Comparison, floors: Floors, *, as_json: bool) -> int:
    """Print the comparison; the exit status says whether something is below a floor.

    Args:
        comparison: Of two outputs.
        floors: What must not be fallen below.
        as_json: As it stands, instead of tables for people.
    """
    broken = floors.broken(comparison)
    if as_json:
        show_json({**comparison.document(), "below": broken})
    else:
        _show_tables(comparison)
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return REGRESSED if broken else OK


def write_report(comparison: Comparison, sides: Sides, path: Path) -> None:
    """Write the page.

    Args:
        comparison: Of both outputs.
        sides: Both, which know where their images lie.
        path: Of the file.
    """
    folders = [Path(side.facts.images) for side in (sides.before, sides.after)]
    with Thumbnails() as thumbnails:
        html = comparison_page(
            comparison,
            (sides.before.path.name, sides.after.path.name),
            lambda which, name: thumbnails.of_file(folders[which] / name) if name else None,
        )
    path.write_text(html, encoding="utf-8")


def _show_tables(comparison: Comparison) -> None:
    table = Table(*HEAD)
    for each in comparison.scorers:
        table.add_row(*map(literally, line(each)))
    alone = (
        f"{comparison.num_only_before:,} rows of the first and {comparison.num_only_after:,} of the second are alone."
    )
    show_table(
        table, *map(literally, [f"{comparison.num_pairs:,} pairs; {alone} Above 0 is better.", *lost_notes(comparison)])
    )
    for each in comparison.scorers:
        if each.tags:
            tags = Table("tag", "pairs", f"mean delta of {each.scorer}", "win rate")
            for found in each.tags:
                tags.add_row(
                    literally(found.tag), f"{found.num:,}", f"{found.mean_delta:+.4g}", f"{found.win_rate:.1%}"
                )
            show_table(tags)
        if each.regressions:
            worst = Table(f"worst of {each.scorer}", "before", "after", "images")
            for pair in each.regressions[:NUM_SHOWN]:
                images = literally(f"{pair.image_before} → {pair.image_after}")
                worst.add_row(literally(pair.prompt), f"{pair.before:.4g}", f"{pair.after:.4g}", images)
            show_table(worst)


def _warn(sides: Sides, names: Sequence[str]) -> None:
    """Say where only the precision or the backend differ, which moves scores a little."""
    for name in names:
        first, second = sides.before.facts.scorers[name], sides.after.facts.scorers[name]
        if first.made_in != second.made_in:
            made = f"{first.made_in}, then in {second.made_in}"
            print(f"{name} was computed in {made}: small deltas come from that.", file=sys.stderr)
