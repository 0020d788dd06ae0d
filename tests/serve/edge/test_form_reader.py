import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline_models.core.errors import MalformedRequestError, TooManyItemsError
from plumbline_serve.edge.rest.multipart import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_KEPT,
    MAX_KEPT_BYTES,
    FormReader,
    boundary_of,
    options_of,
)

BOUNDARY = "frontier"


def part(name: str, data: bytes, *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{name}"', *headers, "", ""]
    return "\r\n".join(lines).encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def read(body: bytes, step: int = 0, max_parts: int = 4) -> dict[str, bytes]:
    reader = FormReader(BOUNDARY.encode(), max_parts)
    for start in range(0, len(body), step or len(body) or 1):
        reader.write(body[start : start + (step or len(body))])
    return reader.close()


TRICKY = b"\r\n--front\r\n--frontie\r\r\n\r\n--frontierx\n--frontier"


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 64])
def test_parts_come_out_as_they_went_in_wherever_the_body_is_cut(step: int) -> None:
    body = part("request", b"{}") + part("a", TRICKY, "Content-Type: image/png") + part("b", b"") + END
    assert read(body, step) == {"request": b"{}", "a": TRICKY, "b": b""}


@settings(max_examples=200, deadline=None)
@given(data=st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--frontier", b"x", b"\r\n--fron"])), step=st.integers(1, 9))
def test_data_like_the_boundary_is_data_unless_it_is_the_boundary(data: list[bytes], step: int) -> None:
    joined = b"".join(data)
    if b"\r\n--" + BOUNDARY.encode() in b"\r\n" + joined + b"\r\n":
        return
    assert read(part("a", joined) + END, step) == {"a": joined}


@pytest.mark.parametrize("name", ["ä", "with space", "x" * 100, "a%22b"])
def test_names_may_be_any_text(name: str) -> None:
    assert read(part(name, b"1") + END) == {name: b"1"}


def test_what_follows_the_closing_boundary_is_left_unread() -> None:
    assert read(part("a", b"1") + END + b"anything at all") == {"a": b"1"}


MALFORMED = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"hello", id="no boundary"),
    pytest.param(b"--other\r\n\r\n\r\n--other--", id="another boundary"),
    pytest.param(part("a", b"1"), id="no closing boundary"),
    pytest.param(part("a", b"1")[:-1], id="cut off in a boundary"),
    pytest.param(part("a", b"1")[:30], id="cut off in a header"),
    pytest.param(part("a", b"1") + part("a", b"2") + END, id="same name twice"),
    pytest.param(b"--frontier\r\n\r\ndata\r\n" + END, id="no headers"),
    pytest.param(b"--frontier\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, id="no name"),
    pytest.param(b"--frontier\r\nContent-Disposition: file; name=a\r\n\r\nx\r\n" + END, id="no form data"),
    pytest.param(b'--frontier\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n' + END, id="name not UTF-8"),
    pytest.param(b"--frontier\r\nbad header\r\n\r\nx\r\n" + END, id="header without colon"),
    pytest.param(b"--frontier\r\n: x\r\n\r\nx\r\n" + END, id="header without name"),
    pytest.param(b"--frontier\nContent-Disposition: form-data; name=a\n\nx\n--frontier--", id="bare line feeds"),
    pytest.param(part("a", b"aGk=", "Content-Transfer-Encoding: base64") + END, id="transfer encoding"),
    pytest.param(part("a", b"", "X: " + "y" * MAX_HEADER_BYTES) + END, id="huge header"),
    pytest.param(part("a", b"", *(f"X{i}: y" for i in range(MAX_HEADERS))) + END, id="too many headers"),
]


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize("body", MALFORMED)
def test_what_is_no_form_is_refused(body: bytes, step: int) -> None:
    with pytest.raises(MalformedRequestError):
        read(body, step)


def test_too_many_parts_are_refused_as_soon_as_they_come() -> None:
    reader = FormReader(BOUNDARY.encode(), 3)
    with pytest.raises(TooManyItemsError):
        reader.write(b"".join(part(str(i), b"") for i in range(1000)))


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; charset=utf-8; boundary="a b"', b"a b"),
        (b"Multipart/Form-Data;BOUNDARY=abc", b"abc"),
        (b"multipart/form-data; boundary=" + b"x" * MAX_KEPT_BYTES, b"x" * MAX_KEPT_BYTES),
    ],
)
def test_the_boundary_is_read_from_the_content_type(header: bytes, boundary: bytes) -> None:
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "header", [b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; b=c"]
)
def test_a_content_type_without_boundary_is_refused(header: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        boundary_of(header)


def test_headers_that_repeat_are_read_once_and_what_is_kept_of_them_is_bounded() -> None:
    header, long = b'form-data; name="request"', b"form-data; name=" + b"x" * MAX_KEPT_BYTES
    first = options_of(header)
    assert first == (b"form-data", {b"name": b"request"})
    assert options_of(header) is first
    assert options_of(long) is not options_of(long)
    for number in range(MAX_KEPT):
        options_of(b"form-data; name=%d" % number)
    assert options_of(header) is not first


def test_an_endless_boundary_is_refused() -> None:
    with pytest.raises(MalformedRequestError):
        FormReader(b"x" * 10_000, 3)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    "preamble", [b"\r\n", b"Parts follow.\r\n", b"--fron\r\n\r\n-- --frontier\r\n", b"x" * 5000 + b"\r\n"]
)
def test_what_stands_before_the_first_boundary_is_skipped(preamble: bytes, step: int) -> None:
    assert read(preamble + part("a", b"1") + END, step) == {"a": b"1"}


def test_the_first_boundary_begins_a_line() -> None:
    assert read(b"x" + part("a", b"1") + END) == {}


def test_nothing_is_held_once_the_reader_is_left() -> None:
    gc.collect()
    gc.disable()
    try:
        with FormReader(BOUNDARY.encode(), 4) as reader:
            reader.write(part("a", b"1"))
        left = weakref.ref(reader)
        del reader
        assert left() is None
    finally:
        gc.enable()
