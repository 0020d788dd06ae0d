"""What the page and the terminal say of all images together, and of groups of them."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from plumbline_serve.offline.report.markup import figure, table
from plumbline_serve.offline.sets import MAX_GROUPS, SetsDocument, SetValues

SET_HEAD: Final = ("set", "images", "Vendi 1", "Vendi 2", "Vendi inf", "mean cosine", "in near-duplicates", "SCE")
MAX_SETS: Final = 20
"""Groups that are shown; the file beside the output has all."""
MAX_DUPLICATES: Final = 6
"""Groups of duplicates that are shown by their images."""
_PICTURES: Final = 4
"""Of each of them."""


def shown_lines(sets: SetsDocument) -> list[list[str]]:
    """The cells of a table under `SET_HEAD`: all images, then the groups whose images are most alike.

    Args:
        sets: Of a run.
    """
    whole, groups = sets.sets[:1], sets.sets[1:]
    alike = sorted(groups, key=lambda each: -1.0 if each.mean_pairwise is None else each.mean_pairwise, reverse=True)
    return [_line(each) for each in (*whole, *alike[:MAX_SETS])]


def set_notes(sets: SetsDocument) -> list[str]:
    """What has to be said of the table.

    Args:
        sets: Of a run.
    """
    if not sets.sets:
        return ["No image was scored, so there is no set."]
    notes = [f"Encodings of {sets.encoder}: values of other encoders are not to be compared."]
    if any(each.n < each.num_images for each in sets.sets):
        notes.append(f"Of more than {sets.max_members:,} images the values are those of {sets.max_members:,} of them.")
    if (num_groups := len(sets.sets) - 1) > MAX_SETS:
        notes.append(f"The {MAX_SETS} groups of {num_groups:,} whose images are most alike.")
    if sets.by is not None and not num_groups:
        notes.append(f"No scored row has a value in the column {sets.by}.")
    if sets.num_beyond:
        notes.append(f"{sets.num_beyond:,} images are of groups beyond the first {MAX_GROUPS:,}, which have no values.")
    if any(each.sce is not None and not each.sce.reliable for each in sets.sets):
        notes.append("SCE in brackets: too few images for so many different prompts.")
    return notes


def shown_rows(sets: SetsDocument | None) -> set[int]:
    """Rows whose images the page shows.

    Args:
        sets: Of a run; None: there are none.
    """
    return {row for group in _duplicates(sets) for row in group}


def set_section(sets: SetsDocument, pictures: Mapping[int, str]) -> Iterator[str]:
    """A part of the page.

    Args:
        sets: Of the run.
        pictures: As for `page`.
    """
    yield "<h2>All images together</h2>"
    yield f"<p>{escape(' '.join(set_notes(sets)))}</p>"
    if not sets.sets:
        return
    yield table(SET_HEAD, shown_lines(sets))
    if duplicates := _duplicates(sets):
        num = len(sets.sets[0].duplicates)
        yield f"<h3>Near-duplicates</h3><p>Groups with a cosine of {sets.near_duplicate:g} or more: {num:,}.</p>"
        figures = (figure(pictures.get(row), f"row {row}", None) for group in duplicates for row in group)
        yield f'<div class="grid">{"".join(figures)}</div>'


def _duplicates(sets: SetsDocument | None) -> list[Sequence[int]]:
    """The largest groups, of each the first."""
    if sets is None or not sets.sets:
        return []
    largest = sorted(sets.sets[0].duplicates, key=len, reverse=True)[:MAX_DUPLICATES]
    return [group[:_PICTURES] for group in largest]


def _line(values: SetValues) -> list[str]:
    is_sample = values.n < values.num_images
    num = f"{values.n:,} of {values.num_images:,}" if is_sample else f"{values.n:,}"
    mean = "" if values.mean_pairwise is None else f"{values.mean_pairwise:.3f}"
    sce = "" if values.sce is None else f"{values.sce.image:.4g}"
    return [
        "all images" if values.group is None else values.group,
        num,
        *(f"{values.vendi[order]:.4g}" for order in ("1", "2", "inf")),
        mean,
        f"{sum(map(len, values.duplicates)):,}",
        sce if values.sce is None or values.sce.reliable else f"({sce})",
    ]
