# ruff: noqa: RUF001 - look-alike letters are what is tested

import html

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline_models.networks.clip.alignment import Alignment, align_fixed, align_lowered, align_unescaped
from plumbline_models.networks.clip.cleaning import clean

AWKWARD = st.sampled_from(
    ["“", "’", "ﬁ", "&amp;", "&lt;", "&#39;", "&nbsp;", "&notit;", "&", "<b>", "\x00", "\x1b[0m", "\r\n", "\x85",
     "\u3000", "Ã¶", "Ã ", "â€œ", "İ", "Σ", "é", "ＡＢ", "日本", "😀", "\ufeff", "word",
     "it's", " ", "  ", "\n", "\ud800"]
)  # fmt: skip
TEXTS = st.lists(AWKWARD | st.characters(), max_size=14).map("".join)


def assert_is_sound(alignment: Alignment, original: str, cleaned: str) -> None:
    starts, ends = alignment.starts, alignment.ends
    assert len(starts) == len(ends) == len(cleaned)
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert all(0 <= start < end <= len(original) for start, end in zip(starts, ends, strict=True))


@given(TEXTS)
def test_repairs_are_aligned_soundly(text: str) -> None:
    fixed = ftfy.fix_text(text)
    assert_is_sound(align_fixed(text, fixed, len(fixed)), text, fixed)


@given(TEXTS)
def test_entities_are_aligned_soundly(text: str) -> None:
    unescaped = html.unescape(text)
    alignment = align_unescaped(text, len(unescaped))
    assert_is_sound(alignment, text, unescaped)
    for char, start, end in zip(unescaped, alignment.starts, alignment.ends, strict=True):
        assert text[start:end] == char or text[start] == "&"


@given(TEXTS)
def test_lower_case_is_aligned_exactly(text: str) -> None:
    lowered = text.lower()
    alignment = align_lowered(text, len(text))
    assert_is_sound(alignment, text, lowered)
    for char, start, end in zip(lowered, alignment.starts, alignment.ends, strict=True):
        assert end == start + 1
        assert char in text[start].lower() or (char, text[start]) == ("ς", "Σ")


@given(TEXTS)
def test_an_alignment_may_be_cut_short(text: str) -> None:
    fixed = ftfy.fix_text(text)
    whole = align_fixed(text, fixed, len(fixed))
    for limit in range(0, len(fixed), 3):
        part = align_fixed(text, fixed, limit)
        assert len(part.starts) >= limit
        assert part.starts[:limit] == whole.starts[:limit]
        assert part.ends[:limit] == whole.ends[:limit]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        pytest.param("as is", ["a", "s", "i", "s"], id="nothing changes"),
        pytest.param("“ﬁne”", ["“", "ﬁ", "ﬁ", "n", "e", "”"], id="one becomes two"),
        pytest.param("x\x00y z", ["x", "y", "z"], id="one vanishes"),
        pytest.param("schÃ¶n so", ["s", "c", "h", "Ã¶", "n", "s", "o"], id="two become one"),
        pytest.param("e\u0301a", ["e\u0301", "a"], id="an accent joins its letter"),
        pytest.param("R&amp;D", ["R", "&amp;", "D"], id="entity"),
        pytest.param("a&nbsp;b", ["a", "b"], id="entity of a space"),
        pytest.param("&amp;amp;x", ["&amp;amp;", "x"], id="entity twice over"),
        pytest.param("<b>&lt;c", ["<", "b", ">", "&lt;", "c"], id="entity beside markup"),
        pytest.param("Ã la mode", ["Ã", "l", "a", "m", "o", "d", "e"], id="repair across a space"),
        pytest.param("\x1b[31mred\x1b[0m", ["r", "e", "d"], id="terminal colours"),
        pytest.param("İx", ["İ", "İ", "x"], id="lower case of two"),
        pytest.param("ΟΔΟΣ", ["Ο", "Δ", "Ο", "Σ"], id="final sigma"),
        pytest.param("ＡＢ　Ｃ", ["Ａ", "Ｂ", "Ｃ"], id="full width"),
    ],
)  # fmt: skip
def test_a_cleaned_character_leads_back_to_what_it_was_made_of(text: str, pieces: list[str]) -> None:
    cleaned = clean(text)
    letters = [index for index, char in enumerate(cleaned.text) if not char.isspace()]
    traced = cleaned.trace([(index, index + 1) for index in letters])
    found = [text[start:end] for start, end in traced]
    assert found == pieces
