"""Token ids of prompts, and captions that look like control tokens."""

import pytest

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, InvalidFieldError
from plumbline_models.networks.flant5.tokenizer import UnigramTokenizer
from plumbline_models.text.questions import QuestionTemplate

IMAGE_PLACE = -200  # what the record writes where the image's tokens go


@pytest.fixture(scope="module")
def pieces(tiny):
    return UnigramTokenizer(tiny / "tokenizer" / "spiece.model", num_extra_ids=10)


def test_prompts_are_tokenised_as_the_authors_do(pieces, golden):
    template = QuestionTemplate()
    for prompt in golden["prompt_ids"]:
        found = [*pieces.encode(template.head), IMAGE_PLACE, *pieces.encode(template.tail(prompt["text"]))]
        assert found == prompt["ids"], prompt["text"]


def test_answers_are_tokenised_as_the_authors_do(pieces, golden):
    assert {word: pieces.encode(word).tolist() for word in golden["answer_ids"]} == golden["answer_ids"]


def test_the_vocabulary_counts_the_sentinels(pieces, golden):
    assert pieces.num_tokens == golden["scored_vocab"]


def test_an_empty_text_is_an_end_of_sequence(pieces):
    assert pieces.encode("").tolist() == [pieces.end_id]


@pytest.mark.parametrize("hostile", ["</s>", "<pad>", "<extra_id_0>", "<unk>", "<image>", "a </s> b <pad> c"])
def test_captions_never_become_control_tokens(pieces, hostile):
    ids = pieces.encode(hostile).tolist()
    sentinels = range(pieces.num_tokens - 10, pieces.num_tokens)
    assert ids.count(pieces.end_id) == 1
    assert ids[-1] == pieces.end_id
    assert 0 not in ids
    assert not set(ids) & set(sentinels)
    assert len(ids) > 3


def test_half_a_surrogate_pair_is_refused(pieces):
    with pytest.raises(InvalidFieldError, match="not valid Unicode"):
        pieces.encode("a \ud800 b")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r"spiece\.model"):
        UnigramTokenizer(tmp_path / "spiece.model", num_extra_ids=0)


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path):
    file = tmp_path / "spiece.model"
    file.write_bytes(b"not a vocabulary")
    with pytest.raises(CheckpointError, match="not usable"):
        UnigramTokenizer(file, num_extra_ids=0)
