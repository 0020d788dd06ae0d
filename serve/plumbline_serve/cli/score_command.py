"""`plumbline score`: files in, a table or the REST reply out; here, or in the file beside through a server."""

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from rich.table import Column, Table
from rich.text import Text

from plumbline_models.core.errors import InvalidFieldError, MalformedRequestError
from plumbline_models.core.questions import Question
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.cli.combine_argument import read_argument
from plumbline_serve.cli.results import literally, show_json, show_table
from plumbline_serve.cli.score_files import Cutter
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.edge.problems import problem
from plumbline_serve.edge.rest.replies import score_document
from plumbline_serve.messages import Combination, EncodedImage, Item, Pool, ScoreRequest, Timing
from plumbline_serve.offline.image_files import File, read
from plumbline_serve.offline.rows import MAX_FRAMES, pool_of
from plumbline_serve.requests.validation import Checks
from plumbline_serve.settings import Settings

OK, SOME_FAILED = 0, 1
MAX_FILE_BYTES = 2**30  # no service takes an image of that size; what is larger is not read into memory
CHUNK = 32  # files per request: enough to fill a batch, few enough to keep memory low
Document: TypeAlias = dict[str, Any]
Scored: TypeAlias = Callable[[Sequence[File]], Document]
"""Scores files that could be read, in one request or more; returns a document in the shape of REST."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What every image is compared with."""

    references: Sequence[str] = ()
    phrases: Sequence[str] = ()
    image: bytes | None = None
    """Of a file."""

    @classmethod
    def parse(cls, references: Sequence[str], phrases: Sequence[str], image: Path | None) -> "Compared":
        """Read the arguments.

        Raises:
            ImageError: The file of the image cannot be read.
            MalformedRequestError: A text is not UTF-8.
        """
        file = None if image is None else read(image, MAX_FILE_BYTES)
        if file is not None and file.error is not None:
            raise file.error
        texts = [tuple(map(_utf8, given)) for given in (references, phrases)]
        return cls(texts[0], texts[1], None if file is None else file.data)

    @property
    def num_bytes(self) -> int:
        """What the image takes of a request."""
        return len(self.image or b"")


@dataclass(frozen=True, slots=True)
class FilesToScore:
    """What the command was given."""

    images: Sequence[Path]
    text: str | None
    scorers: Sequence[str] | None
    questions: Sequence[Question] = ()
    """About each of the images."""
    compared: Compared = Compared()
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """Scores as one, by name."""
    pool: Pool | None = None
    """The images are frames of one video, whose values become one so; None: each is an item."""

    @classmethod
    def parse(
        cls,
        images: Sequence[Path],
        text: str | None,
        *,
        scorers: str | None = None,
        questions: Path | None = None,
        compared: Compared | None = None,
    ) -> "FilesToScore":
        """Read the arguments; a text is UTF-8 whatever the locale says.

        Args:
            images: Paths as they were typed.
            text: What the images should show.
            scorers: Names with commas in between; None: all that are loaded.
            questions: A file of questions; of one with many prompts, those of the text are taken.
            compared: What the images are compared with.

        Raises:
            OSError: The file cannot be read.
            MalformedRequestError: The text is not UTF-8.
            InvalidFieldError: The file is of no layout that is read, or has no questions of the text.
        """
        caption = None if text is None else _utf8(text)
        names = [name.strip() for name in scorers.split(",")] if scorers else None
        asked = () if questions is None else _read_questions(questions, caption)
        return cls(images, caption, names, asked, compared or Compared())

    def as_video(self, pool: str | None) -> "FilesToScore":
        """The same images as frames of one video.

        Args:
            pool: How their values become one; None: their mean.

        Raises:
            InvalidFieldError: There is no such way, or there are too many.
        """
        if len(self.images) > MAX_FRAMES:
            raise InvalidFieldError(f"A video has {len(self.images)} frames; at most {MAX_FRAMES} are allowed.")
        return replace(self, pool=pool_of(pool or "mean"))

    def combining(self, combine: str | None) -> "FilesToScore":
        """The same, with scores as one.

        Args:
            combine: REST's `combine` as JSON, or a file of it; None: none.

        Raises:
            OSError: The file cannot be read.
            MalformedRequestError: It is not JSON.
            InvalidFieldError: It is no `combine`.
        """
        return replace(self, combine=read_argument(combine))


def in_process(inputs: FilesToScore, settings: Settings) -> Document:
    """Score without a server: load, score, forget.

    Args:
        inputs: What to score, and with which scorers.
        settings: How; scorers that `inputs` leaves out are not loaded.

    Raises:
        PlumblineError: The configuration or the request as a whole is wrong.
    """
    scorers = make_scorers(settings)
    if inputs.scorers is not None:
        terms = [term.scorer for each in inputs.combine.values() for term in each.terms]
        chosen = Checks(settings.limits, scorers).scorers([*dict.fromkeys([*inputs.scorers, *terms])]) or []
        scorers = {scorer.info.name: scorer for scorer in chosen}
    limits = settings.limits
    max_items = min(CHUNK, limits.max_items, max(1, limits.max_questions // max(1, len(inputs.questions))))
    max_bytes = max(1, int(limits.max_request_bytes) - inputs.compared.num_bytes)
    cutter = Cutter(max_items, max_bytes, int(limits.max_image_bytes))
    with asyncio.Runner() as runner, ExitStack() as opened:

        @cache
        def assembly() -> Assembly:
            """Loaded once there is something to score: where no file can be read, nothing is compiled."""
            return opened.enter_context(_running(runner, assembled(settings, scorers)))

        def score(files: Sequence[File]) -> Document:
            request = ScoreRequest(_items(inputs, files), scorers=inputs.scorers, combine=inputs.combine)
            return score_document(runner.run(assembly().service.score(request)))

        return score_all(inputs, cutter, score, uuid.uuid4().hex)


def _items(inputs: FilesToScore, files: Sequence[File]) -> list[Item]:
    if inputs.pool is None:
        return [_item(inputs, file) for file in files]
    frames = [EncodedImage(file.data) for file in files]
    return [replace(_item(inputs, files[0]), image=None, frames=frames, pool=inputs.pool)]


def _item(inputs: FilesToScore, file: File) -> Item:
    compared = inputs.compared
    return Item(
        id=file.name,
        image=EncodedImage(file.data),
        text=inputs.text,
        references=compared.references,
        reference_image=None if compared.image is None else EncodedImage(compared.image),
        phrases=compared.phrases,
        questions=inputs.questions,
    )


def _read_questions(file: Path, caption: str | None) -> Sequence[Question]:
    from plumbline_models.text.question_files import read_question_file  # noqa: PLC0415 - for those who ask

    return read_question_file(file).about(caption).questions


def _utf8(text: str) -> str:
    """A text as it was typed, in UTF-8 whatever the locale says.

    Raises:
        MalformedRequestError: It is not UTF-8.
    """
    try:
        return os.fsencode(text).decode()
    except UnicodeError as error:
        raise MalformedRequestError("The text is not UTF-8.") from error


def show(document: Document, *, as_json: bool) -> int:
    """Print the reply; the exit status says whether every item was scored.

    Args:
        document: In the shape of REST.
        as_json: As it stands, instead of a table for people.
    """
    if as_json:
        show_json(document)
    else:
        _show_table(document)
    is_complete = all(result["status"] == "ok" for result in document["results"])
    return OK if is_complete else SOME_FAILED


@contextmanager
def _running(runner: asyncio.Runner, parts: Any) -> Iterator[Assembly]:
    """Hold the parts of a service open; files are read between its runs, where Ctrl-C ends a wait for one."""
    stack = AsyncExitStack()
    assembly = runner.run(stack.enter_async_context(parts))
    try:
        yield assembly
    finally:
        runner.run(stack.aclose())


def score_all(inputs: FilesToScore, cutter: Cutter, score: Scored, request_id: str) -> Document:
    """Score every file that can be read, chunk by chunk.

    Args:
        inputs: Name the files.
        cutter: Reads them and cuts them into chunks.
        score: Scores a chunk.
        request_id: Of the whole.
    """
    documents = []
    if inputs.pool is not None:
        return {"request_id": request_id} | joined([_of_video(inputs, cutter, score)])
    for files in cutter.cut(inputs.images):
        readable = [file for file in files if file.error is None]
        scored = score(readable) if readable else {"results": []}
        results = iter(scored["results"])
        whole = [next(results) if file.error is None else failure(file, problem(file.error)) for file in files]
        documents.append(scored | {"results": whole})
    return {"request_id": request_id} | joined(documents)


def _of_video(inputs: FilesToScore, cutter: Cutter, score: Scored) -> Document:
    """All files in one request; where one cannot be read, there is no video."""
    files = [read(path, cutter.max_file_bytes) for path in inputs.images]
    fault = next((file.error for file in files if file.error is not None), None)
    return score(files) if fault is None else {"results": [failure(files[0], problem(fault))]}


def joined(documents: Sequence[Document]) -> Document:
    """One document of several, without their request ids."""
    timings = [document["timing_ms"] for document in documents if "timing_ms" in document]
    return {
        "results": [result for document in documents for result in document["results"]],
        "timing_ms": {each.name: sum((timing[each.name] for timing in timings), 0.0) for each in fields(Timing)},
    }


def failure(file: File, said: Document) -> Document:
    """The result of a file that was not scored.

    Args:
        file: Which.
        said: The problem.
    """
    return {"id": file.name, "status": "error", "error": said}


def _show_table(document: Document) -> None:
    results = document["results"]
    names = list(dict.fromkeys(name for result in results for name in result.get("scores", {})))
    table = Table("image", *(Column(literally(name)) for name in names), "note")
    for result in results:
        scores = result.get("scores", {})
        values = [f"{scores[n]['value']:.4g}" if "value" in scores.get(n, {}) else "—" for n in names]
        table.add_row(literally(result["id"]), *values, _notes(result, names))
    show_table(table)


def _notes(result: Document, names: Sequence[str]) -> Text:
    scores = result.get("scores", {})
    notes = [result["error"]["detail"]] if "error" in result else []
    notes += [f"{n}: {scores[n]['error']['detail']}" for n in names if "error" in scores.get(n, {})]
    notes += [f"{n}: failed {', '.join(map(str, each))}" for n in names if (each := scores.get(n, {}).get("failed"))]
    notes += [f"misaligned: {', '.join(words)}" for n in names if (words := _misaligned(scores.get(n, {})))]
    return literally("; ".join(notes))


def _misaligned(score: Document) -> list[str]:
    return [word["text"] for word in score.get("words", ()) if word["misaligned"]]
