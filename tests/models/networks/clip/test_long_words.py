"""The first tokens of long words are those of the whole word, and take no more time however long it is."""

import cProfile
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plumbline_models.networks.clip.byte_pairs import NUM_MERGES, _merge, load_byte_pairs
from plumbline_models.networks.clip.long_words import _load_pieces, first_tokens
from plumbline_models.networks.clip.tokenizer import ClipTokenizer

PAIRS = load_byte_pairs()
ALPHABETS = (
    "ab",
    "a",
    "eino",
    "abcdefghijklmnopqrstuvwxyz",
    "😀😂😍",
    "的一是不了人",
    "日本語カタカナ",
    "аеинор",
    "กขคง",
)
WORDS = st.one_of([st.text(st.sampled_from(alphabet), min_size=1, max_size=400) for alphabet in ALPHABETS])
REPEATED = st.builds(
    lambda word, times: word * times, st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), st.integers(1, 200)
)


@given(WORDS | REPEATED, st.integers(1, 80))
@example("😍" * 300, 7)
@example("a" * 1000, 76)
def test_first_tokens_are_those_of_the_whole_word(word: str, num_tokens: int) -> None:
    found = first_tokens(word.encode(), num_tokens)
    ids, begins = PAIRS.encode_word(word)
    if found is None:
        assert len(ids) <= num_tokens or len(word.encode()) < (num_tokens + 2) * _load_pieces().longest
    else:
        assert found == (ids[:num_tokens], (*begins, len(word.encode()))[: num_tokens + 1])


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_how_a_long_word_ends_changes_nothing(alphabet: str) -> None:
    draw = random.Random(12)  # noqa: S311 - no secret
    for _ in range(20):
        word = "".join(draw.choices(alphabet, k=1000)).encode()
        found = first_tokens(word, 75)
        assert found is not None
        assert first_tokens(word[: found[1][-1] + 2 * _load_pieces().longest] + b"?" * 50, 75) == found


def test_every_token_of_the_vocabulary_is_encoded_as_itself() -> None:
    """What the argument in `long_words` takes for granted."""
    pieces = _load_pieces()
    assert len(pieces.parts) == NUM_MERGES
    for piece, token in pieces.by_bytes.items():
        ids = [PAIRS.byte_ids[byte] for byte in piece]
        assert [ids[place] for place in _merge(ids, PAIRS.merges)] == [token]


@pytest.mark.parametrize("word", ["日", "a", "😀", "的一是不了"], ids=ascii)
def test_the_rest_of_a_long_text_is_not_tokenised(word: str) -> None:
    tokenizer = ClipTokenizer()
    text = word * (4000 // len(word))
    tokenizer.encode(text)  # loads the vocabulary
    assert num_calls(tokenizer, 4 * text) < 1.2 * num_calls(tokenizer, text)


def num_calls(tokenizer: ClipTokenizer, text: str) -> int:
    """Of functions, in Python and C: the same on every machine."""
    profile = cProfile.Profile()
    profile.runcall(tokenizer.encode, text)
    return sum(entry.callcount for entry in profile.getstats())
