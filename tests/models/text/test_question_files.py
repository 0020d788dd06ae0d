"""Question files: small ones of each layout that is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.questions import Question
from plumbline_models.text.question_files import QuestionFile, QuestionSet, read_question_file

GENEVAL2: list[Any] = [
    {
        "prompt": "two red cups",
        "atom_count": 3,
        "vqa_list": [["How many cups are there?", "two"], ["Are the cups red?", "Yes"], ["Is there a dog?", "No"]],
        "skills": ["count", "attribute", "object"],
    },
    {"prompt": "a fox", "atom_count": 1, "vqa_list": [["Is there a fox?", "Yes"]], "skills": ["object"]},
]
COLUMNS = ("item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed")
DSG = f"""{",".join(COLUMNS)},tuple,question_natural_language
b_2,"a cup, on a table",cup,1,0,entity,whole,entity - whole (cup),Is there a cup?
b_2,"a cup, on a table","cup, red",2,1,attribute,color,"attribute - color (cup, red)",Is the cup red?
b_2,"a cup, on a table",table,4,0,entity,whole,entity - whole (table),Is there a table?
a_1,a fox,fox,1,0,entity,whole,entity - whole (fox),Is there a fox?
b_2,"a cup, on a table","cup, table, on",3,"1, 4",relation,spatial,"relation - spatial (cup, table, on)",Is it on it?
"""
TIFA = [
    {
        "id": "coco_1",
        "caption": "a surfer",
        "question": "is this a surfer?",
        "choices": ["yes", "no"],
        "answer": "yes",
        "element_type": "animal/human",
        "element": "surfer",
        "coco_val_id": "380711",
    },
    {
        "id": "coco_1",
        "caption": "a surfer",
        "question": "what color is the sky?",
        "choices": ["gray", "red"],
        "answer": "gray",
        "element_type": "color",
        "element": "gray",
    },
]
ONEIG = {
    "000": {"question": {"1": "Is there a cat?", "2": "Is it blue?"}, "dependency": {"1": [0], "2": [1]}},
    "001": {"question": '{"1": "Is there a dog?"}', "dependency": '{"1": [0]}'},
}
CUP = Question("Is there a cup?", tag="entity")


def read(folder: Path, content: Any, *, is_lines: bool = False) -> QuestionFile:
    file = folder / "questions"
    if is_lines:
        content = "\n".join(map(json.dumps, content)) + "\n"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_question_file(file)


def test_geneval2_asks_whether_an_answer_is_the_right_one(tmp_path) -> None:
    assert read(tmp_path, GENEVAL2, is_lines=True).sets == [
        QuestionSet(
            "0",
            "two red cups",
            (
                Question("How many cups are there? Is it two?", tag="count"),
                Question("Are the cups red?", tag="attribute"),
                Question("Is there a dog?", "no", tag="object"),
            ),
        ),
        QuestionSet("1", "a fox", (Question("Is there a fox?", tag="object"),)),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_dsg_and_dpg_bench_name_parents_by_number(tmp_path, mark: str) -> None:
    assert read(tmp_path, mark + DSG).sets == [
        QuestionSet(
            "b_2",
            "a cup, on a table",
            (
                CUP,
                Question("Is the cup red?", tag="attribute", depends_on=(0,)),
                Question("Is there a table?", tag="entity"),
                Question("Is it on it?", tag="relation", depends_on=(0, 2)),
            ),
        ),
        QuestionSet("a_1", "a fox", (Question("Is there a fox?", tag="entity"),)),
    ]


def test_tifa_is_grouped_by_caption_and_tagged_by_element(tmp_path) -> None:
    assert read(tmp_path, TIFA).sets == [
        QuestionSet(
            "coco_1",
            "a surfer",
            (
                Question("is this a surfer?", tag="animal/human"),
                Question("what color is the sky? Is it gray?", tag="color"),
            ),
        )
    ]


def test_oneig_holds_objects_or_texts_of_them_and_no_prompts(tmp_path) -> None:
    assert read(tmp_path, ONEIG).sets == [
        QuestionSet("000", None, (Question("Is there a cat?"), Question("Is it blue?", depends_on=(0,)))),
        QuestionSet("001", None, (Question("Is there a dog?"),)),
    ]


def test_our_own_layout_is_what_the_api_takes(tmp_path) -> None:
    rows: list[Any] = [
        {"id": "x", "prompt": "a cup", "questions": [{"text": "Is there a cup?", "tag": "entity"}]},
        {"questions": ["Is it red?", {"text": "Does it rain?", "expect": "no", "depends_on": [0]}]},
    ]
    expected = [
        QuestionSet("x", "a cup", (CUP,)),
        QuestionSet("1", None, (Question("Is it red?"), Question("Does it rain?", "no", depends_on=(0,)))),
    ]
    assert read(tmp_path, rows).sets == read(tmp_path, rows, is_lines=True).sets == expected
    assert read(tmp_path, rows[0]).sets == expected[:1]
    assert read(tmp_path, rows[1]["questions"]).sets == [QuestionSet("0", None, expected[1].questions)]


def test_a_text_may_hold_other_separators_of_lines(tmp_path) -> None:
    file = tmp_path / "questions.jsonl"
    row = {"id": "x", "prompt": "a cup\u2028on a table", "questions": ["Is it\x85red?"]}
    file.write_text("\n".join([json.dumps(row, ensure_ascii=False)] * 2), encoding="utf-8")
    found = QuestionSet("x", "a cup\u2028on a table", (Question("Is it\x85red?"),))
    assert read_question_file(file).sets == [found, found]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(GENEVAL2[1] | {"skills": []}, "1 questions have 0 skills.", id="skills of another number"),
        pytest.param(GENEVAL2[1] | {"vqa_list": [["a"]]}, "vqa_list.0.1: Field required.", id="no answer"),
        pytest.param({"vqa_list": [["a", "b"]], "skills": ["c"]}, "prompt: Field required.", id="no prompt"),
    ],
)
def test_a_faulty_set_spoils_no_other(tmp_path, content, fault: str) -> None:
    found = read(tmp_path, [content, GENEVAL2[1]])
    assert [each.id for each in found.sets] == ["1"]
    assert found.faults == {"0": fault}


def test_a_parent_that_is_not_there_is_a_fault(tmp_path) -> None:
    found = read(tmp_path, DSG.replace('"1, 4"', '"1, 7"'))
    assert [each.id for each in found.sets] == ["a_1"]
    assert found.faults == {"b_2": "Question 3 depends on question 7, which is not there."}


def test_a_question_of_no_layout_is_named_by_its_place(tmp_path) -> None:
    found = read(tmp_path, [{"questions": [{"text": "a", "expects": "no"}]}])
    assert "expects" in found.faults["0"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "7", "a,b\n1,2\n", '{"a": {"b": 1}}', "\udcff"])
def test_other_files_are_refused(tmp_path, content: str) -> None:
    file = tmp_path / "other.csv"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidFieldError, match=r"^other\.csv is no"):
        read_question_file(file)


def test_a_set_is_found_by_its_prompt(tmp_path) -> None:
    found = read(tmp_path, GENEVAL2)
    assert found.about("a fox").id == "1"
    for prompt in (None, "a wolf"):
        with pytest.raises(InvalidFieldError):
            found.about(prompt)
    assert read(tmp_path, ["Is it red?"]).about("anything").id == read(tmp_path, ["Is it red?"]).about(None).id == "0"
