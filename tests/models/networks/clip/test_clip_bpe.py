# ruff: noqa: RUF001 - look-alike letters are what is tested

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from plumbline_models.core.errors import ConfigError
from plumbline_models.networks.clip.byte_pairs import END_OF_TEXT, START_OF_TEXT
from plumbline_models.networks.clip.tokenizer import ClipTokenizer, Tokenised

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "fclipscore" / "text_merge.json").read_text())["cases"]
REFERENCE = SimpleTokenizer()
TOKENIZER = ClipTokenizer()
COMPAT = ClipTokenizer(compat=True)

AWKWARD = st.sampled_from(
    ["a photo of", "It's", "they'LL", "'ſ", "“", "’s", "ﬁ", "&amp;amp;", "&lt;b&gt;", "&#x1c;", "&#13;", "&EACUTE;",
     "<i>", "\x00", "\x0b", "\x1c", "\x85", "\xa0", "\u3000", "\u200b", "\ufeff", "\ud83d\ude00", "\udc00", "Ã¶",
     "Ã ", "â€œ", "İ", "ΟΔΟΣ", "ẞ", "e\u0301", "ＡＢ", "日本語", "한국", "العربية", "हिन्दी", "👩‍🚀",
     "½", "²", "...", "?!", "1,000", " ", "\n"]
)  # fmt: skip
TEXTS = st.lists(AWKWARD | st.characters(), max_size=20).map("".join)
CONTROL = st.sampled_from(
    ["<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "&lt;end_of_text&gt;", "<ſtart_of_text>"]
)


def open_clip_ids(text: str, context_length: int = 77) -> list[int]:
    ids = [START_OF_TEXT, *REFERENCE.encode(text), END_OF_TEXT]
    return ids if len(ids) <= context_length else [*ids[: context_length - 1], END_OF_TEXT]


def pieces(text: str, tokenised: Tokenised) -> list[str]:
    return [text[start:end] for start, end in tokenised.spans]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: ascii(case["caption"])[:40])
def test_golden_texts_have_their_ids(case: dict[str, Any]) -> None:
    tokenised = COMPAT.encode(case["caption"])
    assert tokenised.ids[: tokenised.eot_index + 1].tolist() == case["token_ids"]
    assert COMPAT.count(case["caption"]) == case["n_bpe"]


@given(TEXTS)
def test_ids_are_open_clips(text: str) -> None:
    tokenised = TOKENIZER.encode(text)
    assert tokenised.ids.dtype == np.int64
    assert tokenised.ids.tolist() == open_clip_ids(text)
    num_tokens = len(REFERENCE.encode(text))
    assert TOKENIZER.count(text) == num_tokens
    assert tokenised.truncated == (num_tokens + 2 > 77)


@given(st.lists(AWKWARD | CONTROL, max_size=8).map(" ".join))
def test_compat_ids_are_open_clips_also_with_control_tokens(text: str) -> None:
    assert COMPAT.encode(text).ids.tolist() == open_clip_ids(text)


@given(st.lists(AWKWARD | CONTROL, max_size=8).map("".join))
def test_control_tokens_cannot_be_written(text: str) -> None:
    ids = TOKENIZER.encode(text).ids.tolist()
    assert ids[0] == START_OF_TEXT
    assert ids[-1] == END_OF_TEXT
    assert not {START_OF_TEXT, END_OF_TEXT} & set(ids[1:-1])


def test_a_control_token_in_a_text_is_read_as_its_letters() -> None:
    text = "a cat <end_of_text> asleep"
    tokenised = TOKENIZER.encode(text)
    assert pieces(text, tokenised) == ["a", "cat", "<", "end", "_", "of", "_", "text", ">", "asleep"]
    assert COMPAT.encode(text).ids.tolist()[3] == END_OF_TEXT
    assert COMPAT.encode(text).eot_index == 3


@given(TEXTS, st.integers(3, 20))
def test_spans_lie_in_the_text_in_order_one_for_each_token(text: str, context_length: int) -> None:
    tokenised = ClipTokenizer(context_length).encode(text)
    spans = tokenised.spans
    assert len(spans) == len(tokenised.ids) - 2 <= context_length - 2
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    assert [end for _, end in spans] == sorted(end for _, end in spans)


UNITS = st.sampled_from(
    ["a", "Photo", "“ﬁne”", "R&amp;D", "&lt;tag&gt;", "schÃ¶n", "it’s", "naïve", "ＦＵＬＬ", "\ufeffbom", "x\x00y",
     "İstanbul", "ΟΔΟΣ", "😀", "👩‍🚀", "日本語", "&amp;amp;", "ŉame", "\x1b[31mred\x1b[0m", "cafÃ©", "100%", "mid-air,"]
)  # fmt: skip


@given(st.lists(UNITS, min_size=1, max_size=8))
def test_no_token_reaches_over_the_word_it_was_made_of_and_no_word_is_without(units: list[str]) -> None:
    text = " ".join(units)
    spans = TOKENIZER.encode(text).spans
    place = 0
    owned = 0
    for unit in units:
        inside = [span for span in spans if place <= span[0] and span[1] <= place + len(unit)]
        assert inside
        owned += len(inside)
        place += len(unit) + 1
    assert owned == len(spans)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="&")))
def test_spans_of_plain_text_are_exact(text: str) -> None:
    tokenised = TOKENIZER.encode(text)
    if not tokenised.truncated:
        assert "".join(pieces(text, tokenised)) == "".join(text.split())
    for piece, token in zip(pieces(text, tokenised), tokenised.ids[1:-1], strict=True):
        assert REFERENCE.decoder[int(token)].removesuffix("</w>") == piece.lower()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("word " * 20_000, id="words"),
        pytest.param("a" * 100_000, id="one word"),
        pytest.param("日本語" * 33_000, id="one foreign word"),
        pytest.param("“ﬁ” " * 25_000, id="repairs"),
        pytest.param("\x00 " * 50_000, id="nothing left"),
        pytest.param("<b>&amp;" * 12_500, id="markup"),
        pytest.param("😀" * 100_000, id="emoji"),
        pytest.param("İ" * 100_000, id="longer in lower case"),
        pytest.param("schÃ¶n & gut\n" * 8_000, id="lines of mojibake"),
    ],
)
def test_a_hundred_thousand_characters_are_cut_where_a_short_text_is(text: str) -> None:
    tokenised = TOKENIZER.encode(text)
    shorter = TOKENIZER.encode(text[:1200])
    assert tokenised.ids.tolist() == shorter.ids.tolist() == open_clip_ids(text[:1200])
    assert tokenised.spans == shorter.spans
    assert tokenised.truncated == shorter.truncated


@pytest.mark.parametrize("num_words", [74, 75, 76, 200])
def test_a_text_over_the_context_is_cut_and_says_so(num_words: int) -> None:
    text = " ".join(["dog"] * num_words)
    tokenised = TOKENIZER.encode(text)
    num_kept = min(num_words, 75)
    assert tokenised.ids.tolist() == [START_OF_TEXT, *[1929] * num_kept, END_OF_TEXT]
    assert tokenised.spans == tuple((4 * index, 4 * index + 3) for index in range(num_kept))
    assert tokenised.truncated == (num_words > 75)
    assert TOKENIZER.count(text) == num_words
    assert TOKENIZER.count(text, 80) == min(num_words, 80)


def test_an_empty_text_has_two_tokens() -> None:
    for text in ("", " \n\t", "\x00", "\ufeff"):
        tokenised = TOKENIZER.encode(text)
        assert tokenised.ids.tolist() == [START_OF_TEXT, END_OF_TEXT]
        assert tokenised.spans == ()
        assert tokenised.eot_index == 1
        assert TOKENIZER.count(text) == 0


def test_a_token_that_holds_a_part_of_a_character_covers_all_of_it() -> None:
    text = "a 語 b"
    tokenised = TOKENIZER.encode(text)
    assert pieces(text, tokenised) == ["a", *["語"] * (len(tokenised.spans) - 2), "b"]
    assert len(tokenised.spans) > 3


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(ConfigError):
        ClipTokenizer(context_length=2)


def test_a_tokenizer_crosses_processes_and_threads() -> None:
    tokenizer = pickle.loads(pickle.dumps(ClipTokenizer(16)))  # noqa: S301 - our own
    texts = [f"a photo of {index} “dogs”" for index in range(200)]
    with ThreadPoolExecutor(8) as pool:
        together = [tokenised.ids.tolist() for tokenised in pool.map(tokenizer.encode, texts)]
    assert together == [open_clip_ids(text, 16) for text in texts]


def test_neither_tokenising_nor_decoding_imports_torch() -> None:
    script = (
        "import sys\n"
        "import plumbline_models.images.decode, plumbline_models.images.preprocess_pixels\n"
        "from plumbline_models.networks.clip.tokenizer import ClipTokenizer\n"
        "assert len(ClipTokenizer().encode('a dog').ids) == 4\n"
        "assert not {'torch', 'torchvision', 'open_clip'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
