"""The page about two outputs: what changed by scorer and by tag, and what became worst, with images."""

from collections.abc import Callable, Iterator
from html import escape

from plumbline_serve.offline.comparison import Comparison, ScorerDelta
from plumbline_serve.offline.report.markup import document, figure, table


def comparison_page(comparison: Comparison, titles: tuple[str, str], picture: Callable[[int, str], str | None]) -> str:
    """One HTML file.

    Args:
        comparison: Of two outputs.
        titles: Their names.
        picture: The address that holds an image of the first (0) or the second (1), by its name; None: none is had.
    """
    return document(f"{titles[1]} beside {titles[0]}", _body(comparison, titles, picture))


def _body(comparison: Comparison, titles: tuple[str, str], picture: Callable[[int, str], str | None]) -> Iterator[str]:
    yield f"<h1>{escape(titles[1])} beside {escape(titles[0])}</h1>"
    alone = f"{comparison.num_only_before:,} and {comparison.num_only_after:,} rows have no partner"
    yield f"<p>{comparison.num_pairs:,} pairs of the same prompt and seed; {alone}. Above 0 is better.</p>"
    yield table(HEAD, [line(each) for each in comparison.scorers])
    yield from (f"<p>{escape(note)}</p>" for note in lost_notes(comparison))
    for each in comparison.scorers:
        if each.tags:
            yield f"<h2>{escape(each.scorer)} by tag</h2>"
            rows = [[t.tag, f"{t.num:,}", f"{t.mean_delta:+.4g}", f"{t.win_rate:.1%}"] for t in each.tags]
            yield table(["tag", "pairs", "mean delta", "win rate"], rows)
        if each.regressions:
            yield f"<h2>{escape(each.scorer)}: what became worst</h2>"
            yield f'<div class="grid">{"".join(_figures(each, picture))}</div>'


HEAD = ("scorer", "pairs", "before", "after", "mean delta", "95 % interval", "win rate")


def line(delta: ScorerDelta) -> list[str]:
    """A scorer as cells of a table under `HEAD`."""
    low, high = delta.interval
    means = [f"{number:.4g}" for number in (delta.mean_before, delta.mean_after)]
    interval = f"{low:+.4g} to {high:+.4g}"
    return [delta.scorer, f"{delta.num:,}", *means, f"{delta.mean_delta:+.4g}", interval, f"{delta.win_rate:.1%}"]


def lost_notes(comparison: Comparison) -> list[str]:
    """What has to be said of values that the second output lacks.

    Args:
        comparison: Of two outputs.
    """
    some = [
        f"{each.scorer}: {each.num_lost:,} pairs have a value in the first alone."
        for each in comparison.scorers
        if each.num_lost
    ]
    return some + [f"{name}: no pair has a value in the second." for name in comparison.lost]


def _figures(delta: ScorerDelta, picture: Callable[[int, str], str | None]) -> Iterator[str]:
    for each in delta.regressions:
        yield figure(picture(0, each.image_before), f"{each.before:.4g}, before", each.prompt)
        yield figure(picture(1, each.image_after), f"{each.after:.4g}, after ({each.delta:+.4g})", each.prompt)
