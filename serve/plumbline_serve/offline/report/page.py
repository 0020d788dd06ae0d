"""The page about an output: each scorer's distribution, how scorers go together, the best and worst, what failed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final

from plumbline_serve.offline.report.collect import Extremes, Failures, ReportData, Shown, TagRate
from plumbline_serve.offline.report.markup import document, figure, histogram, table
from plumbline_serve.offline.report.set_section import set_section
from plumbline_serve.offline.sets import SetsDocument
from plumbline_serve.offline.summary import QUANTILES, rank_correlation

TAG_HEAD: Final = ("tag", "rows", "questions that failed", "rows where one failed")
MAX_TAGS: Final = 40
"""That are shown."""


def page(data: ReportData, pictures: Mapping[int, str], sets: SetsDocument | None = None) -> str:
    """One HTML file.

    Args:
        data: Collected.
        pictures: Addresses that hold the images of rows, by number.
        sets: Measures of all images together; None: none were asked for.
    """
    return document(f"Scores of {data.title}", _body(data, pictures, sets))


def _body(data: ReportData, pictures: Mapping[int, str], sets: SetsDocument | None) -> Iterator[str]:
    sample = data.sample
    yield f"<h1>Scores of {escape(data.title)}</h1>"
    kept = "" if sample.stride == 1 else f" Quantiles, bars and correlations are of every {sample.stride}th row."
    yield f"<p>{sample.num_rows:,} rows scored, {data.failures.num_rows:,} failed in full or in part.{kept}</p>"
    yield _quantiles(data)
    for index, name in enumerate(sample.names):
        facts = data.facts.scorers[name]
        summary = escape(facts.summary.rstrip("."))
        direction = "Higher is better." if facts.higher_is_better else "Lower is better."
        yield f"<h2>{escape(name)}</h2><p>{summary}. {direction}</p>"
        yield histogram(sample.values[:, index], f"Histogram of {name}")
        yield from _tags(data.tags.get(name, ()))
        yield from _extremes(data.extremes[name], pictures)
    yield from _correlations(data)
    if sets is not None:
        yield from set_section(sets, pictures)
    yield from _failures(data.failures)
    yield from _conventions(data)


def _quantiles(data: ReportData) -> str:
    head = ["scorer", "rows", "mean", "least", *(f"{each:.0%}" for each in QUANTILES), "greatest"]
    lines = [
        [each.name, f"{each.num:,}", *(f"{number:.4g}" for number in (each.mean, each.low, *each.quantiles, each.high))]
        for each in data.sample.summaries()
    ]
    return table(head, lines)


def tag_lines(tags: Sequence[TagRate]) -> list[list[str]]:
    """The cells of a table under `TAG_HEAD`, of the tags that fail most.

    Args:
        tags: In that order.
    """
    return [
        [each.tag, f"{each.num_rows:,}", f"{each.failed:.1%}", f"{each.any_failed:.1%}"] for each in tags[:MAX_TAGS]
    ]


def _tags(tags: Sequence[TagRate]) -> Iterator[str]:
    if tags:
        yield "<h3>By tag</h3>"
        yield table(TAG_HEAD, tag_lines(tags))
        if len(tags) > MAX_TAGS:
            yield f"<p>The {MAX_TAGS} tags of {len(tags):,} that fail most.</p>"


def _extremes(extremes: Extremes, pictures: Mapping[int, str]) -> Iterator[str]:
    for heading, rows in (("Best", extremes.best), ("Worst", extremes.worst)):
        if rows:
            yield f'<h3>{heading}</h3><div class="grid">{"".join(_figures(rows, pictures))}</div>'


def _figures(rows: Iterable[Shown], pictures: Mapping[int, str]) -> Iterator[str]:
    for row in rows:
        yield figure(pictures.get(row.number), f"{row.value:.4g}", row.text or row.name, row.words if row.text else ())


def _correlations(data: ReportData) -> Iterator[str]:
    names = data.sample.names
    if len(names) < 2:  # noqa: PLR2004 - a pair
        return
    values = data.sample.values
    lines = [
        [name, *(f"{rank_correlation(values[:, row], values[:, column]):.3f}" for column in range(len(names)))]
        for row, name in enumerate(names)
    ]
    yield "<h2>How scorers go together</h2><p>Spearman's rank correlation over rows that both have scored.</p>"
    yield table(["", *names], lines)


def _failures(failures: Failures) -> Iterator[str]:
    if not failures.by_code:
        return
    yield "<h2>Failures</h2>"
    yield table(["problem", "times"], [[code, f"{num:,}"] for code, num in failures.by_code.items()])
    yield f"<p>The first {len(failures.shown)}:</p>"
    yield table(
        ["row", "image", "scorer", "problem"],
        [
            [str(each["row"]), each["image"] or "", each["scorer"] or "all", each["problem"]["detail"]]
            for each in failures.shown
        ],
        text_columns=(1, 2, 3),
    )


def _conventions(data: ReportData) -> Iterator[str]:
    yield "<h2>How the values are made</h2>"
    lines = [
        [
            name,
            ", ".join(f"{key}: {value}" for key, value in facts.conventions.items()),
            ", ".join(f"{key} {digest[:12]}" for key, digest in facts.weights.items()),
            f"{facts.precision}, {facts.backend}",
        ]
        for name, facts in data.facts.scorers.items()
    ]
    yield table(["scorer", "conventions", "weights (SHA-256)", "precision"], lines, text_columns=(1, 2, 3))
