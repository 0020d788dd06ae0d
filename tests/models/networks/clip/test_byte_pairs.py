import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from plumbline_models.core.errors import CheckpointError
from plumbline_models.networks.clip.byte_pairs import (
    END_OF_TEXT,
    NUM_MERGES,
    START_OF_TEXT,
    load_byte_pairs,
    read_byte_pairs,
)

REFERENCE = SimpleTokenizer()


def open_clip_word(word: str) -> list[int]:
    symbols = "".join(REFERENCE.byte_encoder[byte] for byte in word.encode())
    return [REFERENCE.encoder[symbol] for symbol in REFERENCE.bpe(symbols).split(" ")]


def test_the_control_tokens_are_open_clips() -> None:
    assert (REFERENCE.sot_token_id, REFERENCE.eot_token_id) == (START_OF_TEXT, END_OF_TEXT)
    assert len(load_byte_pairs().merges) == NUM_MERGES


def test_a_merge_comes_after_those_that_make_its_parts() -> None:
    """What the single pass over the merges rests on."""
    for pair, merged in load_byte_pairs().merges.items():
        assert merged > max(pair >> 16, pair & 0xFFFF)


@given(st.text(st.sampled_from("abcdeilnorstu"), min_size=1, max_size=40) | st.text(min_size=1, max_size=12))
def test_a_word_is_encoded_as_by_open_clip(word: str) -> None:
    ids, begins = load_byte_pairs().encode_word(word)
    assert list(ids) == open_clip_word(word)
    assert begins[0] == 0
    assert list(begins) == sorted(set(begins))
    assert begins[-1] < len(word.encode())


@pytest.mark.parametrize("word", ["a" * 3000, "ab" * 1500, "日本語" * 500, "." * 999])
def test_a_giant_word_is_encoded_as_by_open_clip(word: str) -> None:
    assert list(load_byte_pairs().encode_word(word)[0]) == open_clip_word(word)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not gzip", id="not gzip"),
        pytest.param(gzip.compress(b"#version\n" + b"a b\n" * 10), id="too few merges"),
        pytest.param(gzip.compress(b"#version\nquite another file\n"), id="no pairs"),
        pytest.param(gzip.compress(b"#version\nzz y\n"), id="unknown symbol"),
    ],
)
def test_a_damaged_vocabulary_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_byte_pairs(path)
