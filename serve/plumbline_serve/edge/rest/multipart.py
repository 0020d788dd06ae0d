"""multipart/form-data (RFC 7578) to named parts, as the body streams in; in memory.

A part grows in one piece, which goes back to the system once freed; thousands of small ones do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from plumbline_models.core.errors import MalformedRequestError, TooManyItemsError

MAX_HEADERS = 8  # of a part; browsers send two
MAX_HEADER_BYTES = 2048
MAX_KEPT, MAX_KEPT_BYTES = 128, 128
"""How many values of headers are kept as they were read, and of how many bytes at most: those of forms repeat."""
_PLAIN_ENCODINGS = frozenset({b"binary", b"8bit", b"7bit"})

Options: TypeAlias = tuple[bytes, Mapping[bytes, bytes]]
"""The value of a header up to its first semicolon, and the parameters that follow."""


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


class FormReader:
    """Takes a form's bytes as they come; `close` returns its parts by name.

    To be left as a context: the parser holds the reader and the reader the parser, and what they hold would else stay
    until Python looks for such circles.
    """

    def __init__(self, boundary: bytes, max_parts: int) -> None:
        self._max_parts = max_parts
        self._parts: dict[str, bytes] = {}
        self._part = _Part()
        self._name = bytearray()
        self._value = bytearray()
        self._is_complete = False
        self._delimiter = b"\r\n--" + boundary
        self._before: bytes | None = b"\r\n"  # None: the first delimiter was met
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_part_data": lambda data, start, end: self._part.data.extend(memoryview(data)[start:end]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise MalformedRequestError("The form's boundary is not one.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        del self._parser

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            MalformedRequestError: They do not go on as a form does.
            TooManyItemsError: There are too many parts.
        """
        if self._before is not None and not (chunk := self._skip_preamble(self._before + chunk)):
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequestError("The request is not a valid form.") from error

    def close(self) -> dict[str, bytes]:
        """Return the parts by name.

        Raises:
            MalformedRequestError: The form breaks off.
        """
        if not self._is_complete:
            raise MalformedRequestError("The form breaks off before its closing boundary.")
        return self._parts

    def _skip_preamble(self, begun: bytes) -> bytes:
        """Drop what stands before the first delimiter (RFC 2046, section 5.1.1), which the parser does not know."""
        start = begun.find(self._delimiter)
        if start < 0:
            self._before = begun[-len(self._delimiter) :]
            return b""
        self._before = None
        return begun[start + 2 :]

    def _begin_part(self) -> None:
        if len(self._parts) == self._max_parts:
            raise TooManyItemsError(f"The form has too many parts; at most {self._max_parts} are allowed.")
        self._part = _Part()

    def _end_header(self) -> None:
        self._part.headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end_part(self) -> None:
        name = _name_of(self._part.headers)
        if name in self._parts:
            raise MalformedRequestError("The form has two parts of the same name.", part=name)
        self._parts[name] = bytes(self._part.data)
        self._part = _Part()

    def _end(self) -> None:
        self._is_complete = True


def options_of(header: bytes) -> Options:
    """What the value of a header says; not to be changed, for others are given the same."""
    return _kept_options(header) if len(header) <= MAX_KEPT_BYTES else parse_options_header(header)


@lru_cache(MAX_KEPT)
def _kept_options(header: bytes) -> Options:
    return parse_options_header(header)


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a content type names.

    Raises:
        MalformedRequestError: It names none.
    """
    _, parameters = options_of(content_type)
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise MalformedRequestError("The content type of the form names no boundary.")
    return boundary


def _name_of(headers: dict[bytes, bytes]) -> str:
    kind, parameters = options_of(headers.get(b"content-disposition", b""))
    if kind != b"form-data" or b"name" not in parameters:
        raise MalformedRequestError("A part of the form has no name.")
    if headers.get(b"content-transfer-encoding", b"binary").strip().lower() not in _PLAIN_ENCODINGS:
        raise MalformedRequestError("A part of the form has a transfer encoding; send plain bytes.")
    try:
        return parameters[b"name"].decode()
    except UnicodeDecodeError as error:
        raise MalformedRequestError("The name of a part of the form is not UTF-8.") from error
