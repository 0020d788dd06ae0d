"""BERT's tokenizer against the `tokenizers` library's, on texts of every kind."""

from pathlib import Path

import pytest

from loadtests.goldens.preference.drawing import record
from loadtests.goldens.preference.image_reward import vocabulary
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, InvalidFieldError
from plumbline_models.networks.blip.tokenizer import WordPieceTokenizer

TEXTS = [
    "a red circle on a blue background",
    "",
    "   spaces\tand\nlines  ",
    "Two DOGS, playing; it's 3:45 p.m.",
    "café à Noël, naïve façade",
    "cafe\u0301",
    "一只红色的狐狸",
    "赤い丸と青い背景",
    "a fox 🦊 under a rainbow 👨\u200d👩\u200d👧",
    "x" * 101 + " fox",
    "12345 67 apples",
    "\x00red\x7f \ufffd circle\u00a0on\u3000a",
    "$5 ~ `x` ^_^ …—",
    "İstanbul ΣΑΣ",
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = vocabulary(record("imagereward")["weights"]["vocab"])
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_ids_are_those_of_the_tokenizers_library(text: str, file: Path) -> None:
    implementations = pytest.importorskip("tokenizers.implementations")
    reference = implementations.BertWordPieceTokenizer(str(file), lowercase=True)
    assert WordPieceTokenizer(file).encode(text, 512).tolist() == reference.encode(text).ids


def test_a_text_is_cut_with_its_end_kept_and_said_to_be(file: Path) -> None:
    tokenizer = WordPieceTokenizer(file)
    assert len(tokenizer.encode("red " * 33, 35)) == len(tokenizer.encode("red " * 34, 35)) == 35
    assert tokenizer.encode("red " * 34, 35)[-1] == tokenizer.encode("", 35)[-1]
    assert (tokenizer.cuts("red " * 33, 35), tokenizer.cuts("red " * 34, 35)) == (False, True)


def test_a_vocabulary_may_hold_other_separators_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\u2028\n\x85\nred\n", encoding="utf-8")
    assert WordPieceTokenizer(file).encode("red", 35).tolist() == [2, 6, 3]


def test_control_tokens_in_a_text_are_plain_text(file: Path) -> None:
    ids = WordPieceTokenizer(file).encode("a [SEP] b", 35).tolist()
    assert ids.count(102) == 1


def test_half_of_a_surrogate_pair_is_refused(file: Path) -> None:
    with pytest.raises(InvalidFieldError, match="not valid Unicode"):
        WordPieceTokenizer(file).encode("a \ud83d", 35)


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no vocabulary"):
        WordPieceTokenizer(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="none of BERT's"):
        WordPieceTokenizer(tmp_path / "vocab.txt")
