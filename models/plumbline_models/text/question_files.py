"""Files of questions about images, in our own layout and as benchmarks publish theirs.

| layout | what a file holds | where from |
| --- | --- | --- |
| ours | JSON or JSON lines: `{"id", "prompt", "questions"}`, or a list of questions alone | the API's `questions` |
| GenEval 2 | JSON lines: `prompt`, `vqa_list` of questions with answers, `skills` | arXiv:2512.16853 |
| DSG-1k | CSV, a line per question, with `item_id`, `proposition_id`, `dependency` | arXiv:2310.18235 |
| DPG-Bench | the same | arXiv:2403.05135 |
| TIFA v1.0 | JSON, an entry per question, with `caption`, `answer`, `element_type` | arXiv:2303.11897 |
| OneIG-Bench | JSON by prompt: `question` and `dependency` by number, or both as JSON in a text | arXiv:2506.07977 |

Which one a file has is seen by its fields. A question whose answer is neither yes nor no, such as "How many cows are
there?" with "three", becomes one: "How many cows are there? Is it three?". The published figures of such benchmarks ask
otherwise, and are not what these questions give.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.questions import ExpectedAnswer, Question


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """What is asked about the images of one prompt."""

    id: str
    """As the file has it; a number where it has none."""
    prompt: str | None
    """None where the file does not say it."""
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """The sets of a file, in its order."""

    sets: list[QuestionSet] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong with the other sets, by their ids."""

    def about(self, prompt: str | None) -> QuestionSet:
        """The set of a prompt, or the only one of a file that names no prompt.

        Args:
            prompt: None: the file must hold one set.

        Raises:
            InvalidFieldError: There is no such set, or more than one.
        """
        matching = [each for each in self.sets if each.prompt in (prompt, None)]
        if len(matching) == 1 and (prompt is not None or len(self.sets) == 1):
            return matching[0]
        if prompt is None:
            raise InvalidFieldError(f"The questions are of {len(self.sets)} prompts: say which one is meant.")
        raise InvalidFieldError(f"There are {len(matching)} sets of questions for this text; one is needed.")


def read_question_file(path: Path) -> QuestionFile:
    """Read a file of any of the layouts; one faulty set spoils no other.

    Args:
        path: UTF-8, with or without a byte order mark.

    Raises:
        OSError: It cannot be read.
        InvalidFieldError: It is of none of the layouts.
    """
    try:
        document = _document(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidFieldError(f"{path.name} is not UTF-8.") from error
    layout, rows = _layout(document)
    if layout is None:
        raise InvalidFieldError(f"{path.name} is no file of questions of a layout that is read.")
    found = QuestionFile()
    for id_, row in rows:
        try:
            found.sets.append(layout.model_validate(row).read(id_))
        except ValidationError as error:
            found.faults[id_] = _fault(error)
        except InvalidFieldError as error:
            found.faults[id_] = error.detail
    return found


def read_questions(given: Any) -> tuple[Question, ...]:
    """Questions in our own layout: a list of texts, or of objects as the API has them.

    Raises:
        InvalidFieldError: They are none.
    """
    try:
        return _Own.model_validate({"questions": given}).read("").questions
    except ValidationError as error:
        raise InvalidFieldError(f"The questions are not valid at {_fault(error)}") from error


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}."


class _Layout(BaseModel, ABC):
    """What a layout has of one prompt; further fields are passed over."""

    model_config = ConfigDict(frozen=True)

    @abstractmethod
    def read(self, id_: str) -> QuestionSet:
        """The set.

        Raises:
            InvalidFieldError: Its questions do not fit each other.
        """


class _OwnQuestion(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    expect: ExpectedAnswer = "yes"
    tag: str | None = None
    depends_on: list[int] = Field(default_factory=list)


def _with_text(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class _Own(_Layout):
    id: str | None = None
    prompt: str | None = None
    questions: list[Annotated[_OwnQuestion, BeforeValidator(_with_text)]] = Field(min_length=1)

    def read(self, id_: str) -> QuestionSet:
        questions = (Question(each.text, each.expect, each.tag, tuple(each.depends_on)) for each in self.questions)
        return QuestionSet(id_ if self.id is None else self.id, self.prompt, tuple(questions))


class _GenEval2(_Layout):
    prompt: str
    vqa_list: list[tuple[str, str]] = Field(min_length=1)
    skills: list[str]

    def read(self, id_: str) -> QuestionSet:
        if len(self.skills) != len(self.vqa_list):
            raise InvalidFieldError(f"{len(self.vqa_list)} questions have {len(self.skills)} skills.")
        asked = (_yes_or_no(*pair, tag) for pair, tag in zip(self.vqa_list, self.skills, strict=True))
        return QuestionSet(id_, self.prompt, tuple(asked))


class _TifaRow(BaseModel):
    caption: str
    question: str
    answer: str
    element_type: str


class _Tifa(_Layout):
    rows: list[_TifaRow]

    def read(self, id_: str) -> QuestionSet:
        asked = (_yes_or_no(row.question, row.answer, row.element_type) for row in self.rows)
        return QuestionSet(id_, self.rows[0].caption, tuple(asked))


def _numbers(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class _DsgRow(BaseModel):
    text: str
    proposition_id: int
    dependency: Annotated[list[int], BeforeValidator(_numbers)]
    category_broad: str
    question_natural_language: str


class _Dsg(_Layout):
    rows: list[_DsgRow]

    def read(self, id_: str) -> QuestionSet:
        parents = _parents({row.proposition_id: row.dependency for row in self.rows})
        asked = (
            Question(row.question_natural_language, tag=row.category_broad, depends_on=depends_on)
            for row, depends_on in zip(self.rows, parents, strict=True)
        )
        return QuestionSet(id_, self.rows[0].text, tuple(asked))


def _unpacked(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class _OneIg(_Layout):
    question: Annotated[dict[int, str], BeforeValidator(_unpacked), Field(min_length=1)]
    dependency: Annotated[dict[int, list[int]], BeforeValidator(_unpacked)]

    def read(self, id_: str) -> QuestionSet:
        parents = _parents({number: self.dependency.get(number, []) for number in self.question})
        asked = (Question(text, depends_on=each) for text, each in zip(self.question.values(), parents, strict=True))
        return QuestionSet(id_, None, tuple(asked))


_Rows: TypeAlias = Iterator[tuple[str, Any]]
"""What each set is read from, by its id."""


def _layout(document: Any) -> tuple[type[_Layout] | None, _Rows]:
    """The layout of a document, seen by its first fields."""
    found: tuple[type[_Layout] | None, _Rows] = None, iter(())
    match document:
        case [{"vqa_list": _}, *_]:
            found = _GenEval2, _numbered(document)
        case [{"question": _, "element_type": _}, *_]:
            found = _Tifa, _grouped(document, "id")
        case [{"question_natural_language": _}, *_]:
            found = _Dsg, _grouped(document, "item_id")
        case [{"questions": _}, *_]:
            found = _Own, _numbered(document)
        case [str() | {"text": _}, *_]:
            found = _Own, _numbered([{"questions": document}])
        case {"questions": _}:
            found = _Own, _numbered([document])
        case {} if any(isinstance(each, dict) and "dependency" in each for each in document.values()):
            found = _OneIg, iter(document.items())
    return found


def _document(text: str) -> Any:
    """The file as JSON, else as its JSON lines, else as the lines of its CSV."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]  # JSON may hold other separators
    except ValueError:
        return list(csv.DictReader(io.StringIO(text, newline="")))


def _numbered(rows: Sequence[Any]) -> _Rows:
    return ((str(index), row) for index, row in enumerate(rows))


def _grouped(rows: Sequence[Any], key: str) -> _Rows:
    """The lines of each prompt, in the order in which prompts come first."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(str(row.get(key)) if isinstance(row, dict) else "", []).append(row)
    return ((id_, {"rows": lines}) for id_, lines in found.items())


def _yes_or_no(question: str, answer: str, tag: str) -> Question:
    match answer.strip().lower():
        case "yes":
            return Question(question, "yes", tag)
        case "no":
            return Question(question, "no", tag)
        case _:
            return Question(f"{question} Is it {answer.strip()}?", "yes", tag)


def _parents(numbers: Mapping[int, Sequence[int]]) -> list[tuple[int, ...]]:
    """The parents of each question by index, from the numbers that the file gives them, of which 0 is none."""
    index_of = {number: index for index, number in enumerate(numbers)}
    for number, parents in numbers.items():
        for parent in parents:
            if parent and parent not in index_of:
                raise InvalidFieldError(f"Question {number} depends on question {parent}, which is not there.")
    return [tuple(index_of[parent] for parent in parents if parent) for parents in numbers.values()]
