"""Pieces of HTML: everything that comes from outside is escaped here."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1d21, #e8e6e1); --soft: light-dark(#5c616b, #a6a9b0);
  --paper: light-dark(#fbfaf7, #16181c); --card: light-dark(#ffffff, #1f2227); --line: light-dark(#c9c7c0, #464a52);
  --accent: light-dark(#1f5fbf, #7fb2ff); --wrong: light-dark(#b3261e, #ff8a80); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; } p, figcaption { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; font-size: 0.9rem;
  border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } td.text { text-align: left; overflow-wrap: anywhere; }
svg { width: 100%; max-width: 40rem; height: auto; display: block; } svg rect { fill: var(--accent); }
svg text { fill: var(--soft); font-size: 11px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: 0.5rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem; }
figure img, figure .none { width: 100%; height: 9rem; object-fit: contain; display: block; }
figcaption { font-size: 0.85rem; overflow-wrap: anywhere; } figcaption strong { color: var(--ink); }
mark { background: none; color: var(--wrong); text-decoration: underline wavy; } code { overflow-wrap: anywhere; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WIDTH_PX, HEIGHT_PX, LABEL_PX = 600, 120, 18
NUM_BINS = 40


def document(title: str, body: Iterable[str]) -> str:
    """A whole page that loads nothing.

    Args:
        title: Text.
        body: HTML.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, text_columns: Sequence[int] = ()) -> str:
    """A table of texts.

    Args:
        head: Names of the columns.
        lines: Their cells.
        text_columns: Columns that hold sentences rather than numbers, by index.
    """
    names = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    rows = "".join(f"<tr>{_cells(line, text_columns)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></div>'


def histogram(values: NDArray[np.float64], label: str) -> str:
    """Bars of how many values lie where; a sentence where there is none.

    Args:
        values: `[N]`, NaN where there is none.
        label: What they are, for those who do not see it.
    """
    present = values[np.isfinite(values)]
    if not len(present):
        return "<p>No row has a value.</p>"
    counts, edges = np.histogram(present, NUM_BINS)
    width = WIDTH_PX / NUM_BINS
    bars = "".join(
        f'<rect x="{index * width:.1f}" y="{HEIGHT_PX - height:.1f}" width="{width - 1:.1f}" height="{height:.1f}">'
        f"<title>{edges[index]:.4g} to {edges[index + 1]:.4g}: {count:,}</title></rect>"
        for index, count in enumerate(counts)
        if (height := HEIGHT_PX * count / counts.max())
    )
    ends = (
        f'<text x="0" y="{HEIGHT_PX + LABEL_PX - 4}">{edges[0]:.4g}</text>'
        f'<text x="{WIDTH_PX}" y="{HEIGHT_PX + LABEL_PX - 4}" text-anchor="end">{edges[-1]:.4g}</text>'
    )
    box = f"0 0 {WIDTH_PX} {HEIGHT_PX + LABEL_PX}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">{bars}{ends}</svg>'


def figure(picture: str | None, heading: str, text: str | None, words: Sequence[Mapping[str, Any]] = ()) -> str:
    """An image with its value and its text, misaligned words marked.

    Args:
        picture: Address that holds it; None: it could not be had.
        heading: Its value.
        text: Its caption.
        words: Of the text, with their places in it.
    """
    shown = f'<img src="{escape(picture)}" alt="">' if picture else '<div class="none">no picture</div>'
    caption = f"<strong>{escape(heading)}</strong> {marked(text or '', words)}"
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def marked(text: str, words: Sequence[Mapping[str, Any]]) -> str:
    """A text with its misaligned words marked.

    Args:
        text: As it was scored.
        words: With `start`, `end` and `misaligned`.
    """
    done, pieces = 0, []
    for word in sorted(words, key=lambda each: int(each["start"])):
        start, end = int(word["start"]), int(word["end"])
        if word["misaligned"] and done <= start < end <= len(text):
            pieces += [escape(text[done:start]), f"<mark>{escape(text[start:end])}</mark>"]
            done = end
    return "".join([*pieces, escape(text[done:])])


def _cells(line: Sequence[str], text_columns: Sequence[int]) -> str:
    return "".join(
        f'<td class="text">{escape(cell)}</td>' if index in text_columns else f"<td>{escape(cell)}</td>"
        for index, cell in enumerate(line)
    )
