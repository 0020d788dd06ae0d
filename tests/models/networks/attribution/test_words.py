import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline_models.networks.attribution.words import Word, compat_words, count_words, split_words, words_from_tokens
from plumbline_models.networks.clip.byte_pairs import END_OF_TEXT
from plumbline_models.networks.clip.tokenizer import ClipTokenizer

GOLDEN = Path(__file__).parents[3] / "golden" / "fclipscore"
MERGES = json.loads((GOLDEN / "text_merge.json").read_text())["cases"]
SCORED = json.loads((GOLDEN / "b32_quickgelu.json").read_text())
TOKENIZER = ClipTokenizer()
COMPAT = ClipTokenizer(compat=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("a red circle", ["a", "red", "circle"], id="plain"),
        pytest.param('"Stop!" she said...', ["Stop", "she", "said"], id="punctuation at the ends"),
        pytest.param("mid-air, don't e.g. 1,000", ["mid-air", "don't", "e.g", "1,000"], id="punctuation inside"),
        pytest.param("wait ... - what", ["wait", "what"], id="punctuation alone"),
        pytest.param("tab\there\u00a0and\u3000there", ["tab", "here", "and", "there"], id="any white space"),
        pytest.param("$5 + 3° = C#?", ["$5", "+", "3°", "=", "C"], id="symbols"),
        pytest.param("日本語の文、です。", ["日本語の文、です"], id="japanese"),
        pytest.param("a 😀 👩‍🚀!", ["a", "😀", "👩‍🚀"], id="emoji"),
        pytest.param("\ufeffbom \u200b x\x00", ["bom", "x"], id="invisible characters"),
        pytest.param("naïve cafe\u0301.", ["naïve", "cafe\u0301"], id="accents"),
    ],
)
def test_words_stand_between_spaces_without_the_punctuation_around_them(text: str, words: list[str]) -> None:
    assert [word.text for word in split_words(text)] == words


@given(st.text(st.sampled_from("ab .-\n漢")), st.integers(0, 9))
def test_words_are_counted_as_they_are_split(text: str, most: int) -> None:
    assert count_words(text, most=most) == min(len(split_words(text)), most)


@given(st.text())
def test_a_words_offsets_cut_it_out_of_the_text(text: str) -> None:
    last = 0
    for word in split_words(text):
        assert last <= word.start < word.end <= len(text)
        assert text[word.start : word.end] == word.text
        last = word.end


def test_each_word_has_its_tokens() -> None:
    text = 'An "antidisestablishmentarian" cat, mid-air...'
    tokenised = TOKENIZER.encode(text)
    words = split_words(text)
    grouped = words_from_tokens(tokenised, words)
    found = [["".join(text[slice(*tokenised.spans[index])]) for index in indices] for indices in grouped]
    assert ["".join(parts) for parts in found] == ["An", "antidisestablishmentarian", "cat", "mid-air"]
    assert [len(parts) for parts in found] == [1, 6, 1, 3]


def test_words_of_a_caption_are_found_behind_a_template() -> None:
    template, caption = "A photo depicts ", "a photo of “curly” dogs"
    tokenised = TOKENIZER.encode(template + caption)
    words = split_words(caption)
    grouped = words_from_tokens(tokenised, words, offset=len(template))
    alone = words_from_tokens(TOKENIZER.encode(caption), words)
    assert grouped == [[index + 3 for index in indices] for indices in alone]
    assert [len(indices) for indices in grouped] == [1, 1, 1, 1, 1]


def test_words_behind_the_cut_have_no_tokens() -> None:
    text = " ".join(["dog"] * 80)
    grouped = words_from_tokens(TOKENIZER.encode(text), split_words(text))
    assert grouped == [[index] for index in range(75)] + [[]] * 5


@given(st.text(max_size=60))
def test_every_grouping_is_in_order_and_in_bounds(text: str) -> None:
    tokenised = TOKENIZER.encode(text)
    words = split_words(text)
    grouped = words_from_tokens(tokenised, words)
    assert len(grouped) == len(words)
    firsts = [indices[0] for indices in grouped if indices]
    assert firsts == sorted(firsts)
    for word, indices in zip(words, grouped, strict=True):
        for index in indices:
            start, end = tokenised.spans[index]
            assert start < word.end
            assert word.start < end


@pytest.mark.parametrize("case", MERGES, ids=lambda case: ascii(case["caption"])[:40])
def test_compat_groups_each_golden_text_as_the_papers_code(case: dict[str, Any]) -> None:
    caption = case["caption"]
    tokenised = COMPAT.encode(caption)
    words, grouped = compat_words(caption, "", tokenised, tokenizer=COMPAT)
    assert [word.text for word in words] == case["space_words"]
    assert [COMPAT.count(word.text) for word in words] == case["own_counts"]
    ids = [[int(tokenised.ids[index + 1]) for index in indices] for indices in grouped]
    visible = case["word_token_ids"]
    if any(END_OF_TEXT in word_ids for word_ids in visible):  # the golden grouping lists invisible tokens too
        visible = [[] for _ in visible]
    assert ids == visible


@pytest.mark.parametrize("case", SCORED["cases"], ids=lambda case: ascii(case["caption"])[:40])
def test_compat_gives_the_papers_word_values(case: dict[str, Any]) -> None:
    template = SCORED["template"]
    tokenised = COMPAT.encode(template + case["caption"])
    assert tokenised.ids[: tokenised.eot_index + 1].tolist() == case["token_ids"]
    assert tokenised.truncated == case["truncated"]
    words, grouped = compat_words(case["caption"], template, tokenised, tokenizer=COMPAT)
    values = [
        (word.text, sum(case["token_attr"][index] for index in indices) / len(indices))
        for word, indices in zip(words, grouped, strict=True)
        if indices
    ]
    expected = case.get("word_attr_all", [])
    assert [text for text, _ in values] == [text for text, _ in expected]
    assert [value for _, value in values] == pytest.approx([value for _, value in expected], rel=1e-6, abs=1e-12)


def test_compat_words_stand_where_they_are_in_the_caption() -> None:
    caption = " a dog, 3.5 m"
    words, _ = compat_words(caption, "A photo of ", COMPAT.encode("A photo of " + caption), tokenizer=COMPAT)
    assert words == [
        Word("a", 1, 2), Word("dog", 3, 6), Word(",", 6, 7), Word("3", 8, 9), Word(".", 9, 10), Word("5", 10, 11),
        Word("m", 12, 13),
    ]  # fmt: skip


def test_compat_drops_a_first_word_that_has_grown_together_with_the_template() -> None:
    words, _ = compat_words("dog here", "a photo of", COMPAT.encode("a photo ofdog here"), tokenizer=COMPAT)
    assert [word.text for word in words] == ["here"]
