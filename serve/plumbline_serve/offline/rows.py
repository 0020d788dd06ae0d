"""One row of an input: an image, what it is scored against, and columns that pass through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import orjson

from plumbline_models.core.errors import ImageError, InvalidFieldError, PlumblineError
from plumbline_models.core.questions import Question
from plumbline_models.text.question_files import QuestionFile, QuestionSet, read_questions
from plumbline_serve.messages import Pool
from plumbline_serve.offline.image_files import read, shown
from plumbline_serve.offline.videos import VIDEO_ENDINGS, VideoDecoder

Columns: TypeAlias = Mapping[str, Any]
IMAGE_COLUMN, TEXT_COLUMN = "image", "text"
"""Unless the caller names others."""
URL_PREFIXES = ("http://", "https://")
MAX_FRAMES = 64
NUM_FRAMES = 8
"""Of a video file, where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Url:
    """An image to be fetched, where that is allowed."""

    address: str


Picture: TypeAlias = bytes | Path | Url
"""The bytes of an image file, where they are, or whence they are fetched."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video file, whose frames stand in place of an image."""

    file: Path | bytes
    num_frames: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or what is wrong with it."""

    number: int
    """From 0, in the order of the input."""
    name: str = ""
    """Of the image, as the output shows it; empty where it came as bytes without a name."""
    image: Picture | None = None
    text: str | None = None
    video: Video | None = None
    """In place of an image; once it is read, its frames are."""
    frames: Sequence[Picture] = ()
    """In place of an image."""
    pool: Pool = "mean"
    reference_image: Picture | None = None
    references: Sequence[str] = ()
    phrases: Sequence[str] = ()
    questions: Sequence[Question] = ()
    columns: Columns = field(default_factory=dict)
    """Further ones, which pass through."""
    error: PlumblineError | None = None

    @property
    def num_bytes(self) -> int:
        """Of its images, as far as they are read."""
        return sum(len(each) for each in (self.image, self.reference_image, *self.frames) if isinstance(each, bytes))

    def loaded(self, max_bytes: int, videos: VideoDecoder | None = None) -> "Row":
        """The row with its files read.

        Args:
            max_bytes: Of one file; a larger one is an error of the row.
            videos: Decodes them; None: they stay as they are.

        Raises:
            ConfigError: Videos cannot be decoded here.
        """
        row = self._with_frames(max_bytes, videos)
        for which in ("image", "reference_image"):
            path = getattr(row, which)
            if row.error is None and isinstance(path, Path):
                file = read(path, max_bytes)
                given: dict[str, Any] = {"error": file.error} if file.error else {which: file.data}
                row = replace(row, **given)
        return row

    def _with_frames(self, max_bytes: int, videos: VideoDecoder | None) -> "Row":
        if self.error is not None:
            return self
        if self.video is not None and videos is not None:
            try:
                return replace(self, frames=videos.frames(self.video.file, self.video.num_frames), video=None)
            except ImageError as error:
                return replace(self, error=error)
        found: list[Picture] = []
        for frame in self.frames:
            file = read(frame, max_bytes) if isinstance(frame, Path) else None
            if file is not None and file.error is not None:
                return replace(self, error=file.error)
            found.append(frame if file is None else file.data)
        return replace(self, frames=tuple(found))


class AskedQuestions:
    """The questions of a file, found by a row's text or its id.

    Args:
        file: As it was read.
    """

    def __init__(self, file: QuestionFile) -> None:
        self._by_prompt = {each.prompt: each for each in file.sets if each.prompt is not None}
        self._by_id = {each.id: each for each in file.sets if each.prompt is None}
        self._faults = file.faults

    def about(self, text: str | None, id_: object) -> Sequence[Question]:
        """The questions about the images of one text.

        Args:
            text: Of the row.
            id_: Its column `id`, where it has one: files without prompts are read by it.

        Raises:
            InvalidFieldError: There are none.
        """
        found: QuestionSet | None = None if text is None else self._by_prompt.get(text)
        if found is None and id_ is not None:
            found = self._by_id.get(str(id_))
        if found is None and len(self._by_id) == 1 and not self._by_prompt:
            (found,) = self._by_id.values()
        if found is None:
            fault = self._faults.get(str(id_))
            raise InvalidFieldError(fault or "The file of questions has none about this text.")
        return found.questions


@dataclass(frozen=True, slots=True)
class RowReading:
    """How columns become rows."""

    folder: Path
    """Where relative paths of images are seen from."""
    image_column: str = IMAGE_COLUMN
    text_column: str = TEXT_COLUMN
    text: str | None = None
    """Of rows that have none."""
    num_frames: int = NUM_FRAMES
    """Of a video file."""
    pool: Pool = "mean"
    """Of rows that have none."""
    asked: AskedQuestions | None = None

    def row(self, number: int, columns: Columns, name: str | None = None) -> Row:
        """Read one row; what is wrong with it is its error.

        Args:
            number: Its place.
            columns: By name.
            name: Of the image, where it is not to be seen from its column.
        """
        others = {key: value for key, value in columns.items() if key not in (self.image_column, self.text_column)}
        image, text = columns.get(self.image_column), columns.get(self.text_column)
        row = Row(number, name or _name_of(image), columns=others)
        try:
            row = replace(row, text=_text(text, "text") or self.text)
            video, frames = self._video(image), self._frames(others.get("frames"))
            if frames and image:
                raise InvalidFieldError("The row has both an image and frames.")
            return replace(
                row,
                image=None if video else self._picture(image, self.image_column),
                video=video,
                frames=frames,
                pool=pool_of(others.get("pool") or self.pool) if video or frames else self.pool,
                reference_image=self._picture(others.get("reference_image"), "reference_image"),
                references=_texts(others.get("references"), "references"),
                phrases=_texts(others.get("phrases"), "phrases"),
                questions=self._questions(row, others),
            )
        except PlumblineError as error:
            return replace(row, error=error)

    def _picture(self, given: Any, what: str) -> Picture | None:
        match given:
            case None | "":
                return None
            case bytes() if given:
                return given
            case {"bytes": bytes() as data} if data:  # as the datasets library writes images
                return data
            case {"path": str() as path}:
                return self._picture(path, what)
            case str() if given.startswith(URL_PREFIXES):
                return Url(given)
            case str():
                return self.folder / given
            case b"" | {"bytes": b""}:
                raise InvalidFieldError(f"The {what} has no bytes.")
        raise InvalidFieldError(f"The {what} is neither a path, nor an address, nor bytes.")

    def _video(self, given: Any) -> Video | None:
        """A file with the ending of a video; bytes have it beside them, in their path."""
        match given:
            case {"bytes": bytes() as data, "path": str() as path} if data and is_video(path):
                return Video(data, self.num_frames)
            case {"path": str() as path} | (str() as path) if is_video(path) and not path.startswith(URL_PREFIXES):
                return Video(self.folder / path, self.num_frames)
        return None

    def _frames(self, given: Any) -> Sequence[Picture]:
        found = _unpacked(given)
        if not isinstance(found, list):  # a column of another meaning, such as how many frames there were
            return ()
        if not 1 <= len(found) <= MAX_FRAMES:
            raise InvalidFieldError(f"The frames are no list of 1 to {MAX_FRAMES} images.")
        pictures = [self._picture(each, "frame") for each in found]
        if None in pictures:
            raise InvalidFieldError("A frame is missing.")
        return tuple(each for each in pictures if each is not None)

    def _questions(self, row: Row, others: Columns) -> Sequence[Question]:
        if (given := _unpacked(others.get("questions"))) is not None:
            return read_questions([_without_nulls(each) for each in given] if isinstance(given, list) else given)
        return () if self.asked is None else self.asked.about(row.text, others.get("id"))


def pool_of(given: object) -> Pool:
    """How the values of frames become one, as it is called.

    Raises:
        InvalidFieldError: There is no such way.
    """
    for name in get_args(Pool):
        if given == name:
            found: Pool = name
            return found
    raise InvalidFieldError(f"The pool is none of {', '.join(get_args(Pool))}.")


def is_video(name: str) -> bool:
    """Whether a file is a video, by its ending."""
    return Path(name).suffix.lower() in VIDEO_ENDINGS


def broken(number: int, name: str, error: PlumblineError) -> Row:
    """A row of which nothing could be read.

    Args:
        number: Its place.
        name: Where it stands, for people.
        error: Why.
    """
    return Row(number, name, error=error)


def _name_of(image: Any) -> str:
    named = image.get("path") if isinstance(image, Mapping) else image
    if not isinstance(named, str):
        return ""
    return named if named.startswith(URL_PREFIXES) else shown(Path(named))


def _text(given: Any, what: str) -> str | None:
    if given is None or isinstance(given, str):
        return given or None
    raise InvalidFieldError(f"The {what} is no text.")


def _texts(given: Any, what: str) -> Sequence[str]:
    found = _unpacked(given)
    if found is None:
        return ()
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return tuple(found)
    raise InvalidFieldError(f"The {what} are no list of texts.")


def _without_nulls(question: Any) -> Any:
    """A question of a table has every field, those that it does not say as null."""
    return {k: v for k, v in question.items() if v is not None} if isinstance(question, dict) else question


def _unpacked(given: Any) -> Any:
    """A list, which stands as JSON in a table of texts."""
    if given is None or given == "":
        return None
    if isinstance(given, str):
        try:
            return orjson.loads(given)
        except orjson.JSONDecodeError:
            return [given]
    return given
