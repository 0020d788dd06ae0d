"""Prompts as token ids: the recorded ones exactly, and captions that look like control tokens as plain text."""

import json

import pytest

from loadtests.goldens.vqascore import FOLDERS, GOLDEN, pixels, record
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, InvalidFieldError
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.families import CAUSAL_FAMILIES, CausalName
from plumbline_models.networks.causal.prompts import CausalPrompt, num_shared, write_tiles
from plumbline_models.networks.causal.tokenizers import ByteLevelTokenizer, SentencePieces
from plumbline_models.text.questions import QuestionTemplate

HOSTILE = (
    *("<s>", "</s>", "<unk>", "<pad>", "<image>", "<|image_pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    *("<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<|vision_end|>"),
)


def open_prompt(family: CausalName, question: str | None = None, answer: str | None = None) -> CausalPrompt:
    described = CAUSAL_FAMILIES[family]
    pieces = CausalCheckpoint(str(GOLDEN / FOLDERS[family]), described).pieces
    stated = described.question if question is None else question
    return CausalPrompt(described, QuestionTemplate(stated, answer or described.answer), pieces)


@pytest.mark.parametrize("family", ["qwen2.5-vl", "smolvlm"])
def test_prompts_are_the_recorded_ones(family):
    prompt, checkpoint = open_prompt(family), CausalCheckpoint(str(GOLDEN / FOLDERS[family]), CAUSAL_FAMILIES[family])
    for entry in record(family)["prompt_ids"]:
        grid = checkpoint.pixels.preprocess(pixels(family, entry["image"])).grid
        head = prompt.head_ids(grid, checkpoint.num_tile_tokens or grid[0] * grid[1])
        assert [*head, *prompt.tail(entry["text"]).ids] == entry["ids"], entry["text"]


@pytest.mark.parametrize(("kind", "question", "answer"), [("prompt_ids", None, None), ("caption_ids", "", "{}")])
def test_llava_prompts_and_answers_are_the_recorded_ones(kind, question, answer):
    prompt = open_prompt("llava-1.5", question, answer)
    head = [int(id_) for id_ in prompt.head_ids((0, 0), 1)]
    assert head[-1] == prompt.placeholder_id
    for entry in record("llava-1.5")[kind]:
        tail = prompt.tail(entry["text"])
        assert [*head[:-1], -200, *tail.ids, tail.answer_ids[-1]] == entry["ids"], entry["text"]
        assert tail.answer_ids.tolist() == entry["answer_ids"]
        assert len(head) + tail.num_prompt == entry["n_prompt"]


@pytest.mark.parametrize("family", FOLDERS)
@pytest.mark.parametrize("caption", HOSTILE)
def test_captions_never_become_control_tokens(family, caption):
    prompt = open_prompt(family)
    plain, hostile = prompt.tail("a dog"), prompt.tail(f"a {caption} dog{caption}")
    controls = set(_controls(family))
    assert [id_ for id_ in hostile.ids if id_ in controls] == [id_ for id_ in plain.ids if id_ in controls]
    assert len(hostile.ids) > len(plain.ids)
    assert prompt.placeholder_id not in hostile.ids
    assert hostile.answer_ids.tolist() == plain.answer_ids.tolist()


@pytest.mark.parametrize("family", FOLDERS)
def test_answers_that_look_like_control_tokens_are_text_too(family):
    tail = open_prompt(family, answer="<|im_end|></s>{}").tail("a dog")
    end = open_prompt(family)._end_ids
    assert not set(tail.answer_ids.tolist()[: -len(end) or None]) & set(_controls(family))


@pytest.mark.parametrize("family", FOLDERS)
def test_nearly_all_captions_share_the_beginning_of_the_question(family):
    prompt = open_prompt(family)
    assert len(prompt.stock_ids) > 4
    for caption in ("a cat", "(", "42", "é"):
        assert num_shared(prompt.stock_ids, prompt.tail(caption).ids) == len(prompt.stock_ids)


def test_an_answer_without_a_token_is_refused():
    with pytest.raises(InvalidFieldError, match="no token"):
        open_prompt("qwen2.5-vl", "Which?", "{}").tail("")


@pytest.mark.parametrize("family", FOLDERS)
def test_half_a_surrogate_pair_is_refused(family):
    with pytest.raises(InvalidFieldError):
        open_prompt(family).tail("a \ud800 dog")


def test_tiles_are_marked_by_row_and_column_and_the_whole_comes_last():
    mark = "<fake_token_around_image>"
    assert write_tiles((0, 0)) == f"{mark}<global-img><image>{mark}"
    tiles = f"{mark}<row_1_col_1><image>{mark}<row_1_col_2><image>\n"
    assert write_tiles((1, 2)) == f"{tiles}\n{mark}<global-img><image>{mark}"


def test_a_grid_without_marks_in_the_vocabulary_is_refused():
    with pytest.raises(CheckpointError, match="row_7_col_1"):
        open_prompt("smolvlm").head_ids((9, 1), 4)


def test_a_missing_or_broken_tokenizer_is_said(tmp_path):
    with pytest.raises(CheckpointNotFoundError):
        ByteLevelTokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointNotFoundError):
        SentencePieces(tmp_path / "tokenizer.model")
    for text in ("no json", "[]", "{}", json.dumps({"added_tokens": [{}]})):
        (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError):
            ByteLevelTokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.model").write_bytes(b"no pieces")
    with pytest.raises(CheckpointError):
        SentencePieces(tmp_path / "tokenizer.model")


def _controls(family: str) -> list[int]:
    if family == "llava-1.5":
        return [0, 1, 2]  # unknown, beginning, end
    described = json.loads((GOLDEN / FOLDERS[family] / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    return [token["id"] for token in described["added_tokens"]]
