"""Lines of the log: what is in them, and that what callers send is not."""

import json
import logging
from typing import Any

import pytest

from plumbline_models.core.errors import CheckpointNotFoundError
from plumbline_serve.logs import OURS, START, JsonFormatter, TextFormatter, facts, write_to

KEY, URL = "pl_0123456789abcdef", "https://user:pw@example.org/a.png?sig=1"


def record(message: str, *args: Any, error: BaseException | None = None, **known: Any) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("plumbline_serve.x", logging.WARNING, "x.py", 1, message, args, info)
    made.__dict__.update(facts(**known))
    return made


def test_a_line_is_one_object_with_its_facts() -> None:
    line = JsonFormatter("gateway").format(record("late by %d", 3, request_id="a\nb", items=2, caller=None))
    assert line.startswith(START)
    assert "\n" not in line
    document = json.loads(line)
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "warning", "logger": "plumbline_serve.x", "process": "gateway", "message": "late by 3",
        "request_id": "a\nb", "items": 2,
    }  # fmt: skip


def test_text_says_the_same() -> None:
    line = TextFormatter("gateway").format(record("late", request_id='a "b"', items=2, code="200"))
    assert line.split(" ", 1)[1] == r'WARNING late request_id="a \"b\"" items=2 code=200 process=gateway'


def fail() -> None:
    known: dict[str, str] = {}
    try:
        known[KEY]
    except KeyError as error:
        raise ValueError(f"could not convert string to float: 'a secret text' at {URL}") from error


@pytest.mark.parametrize("form", [JsonFormatter("gateway"), TextFormatter("gateway")], ids=["json", "text"])
def test_what_libraries_quote_and_urls_are_cut_out(form: logging.Formatter) -> None:
    with pytest.raises(ValueError, match="could not convert") as caught:
        fail()
    line = form.format(record("fetching %s failed", URL, error=caught.value))
    assert not [each for each in (KEY, "secret", "example.org", "sig=1", "data:") if each in line]
    assert "ValueError: could not convert string to float: … at …, from KeyError: …" in line
    assert "in fail" in line


def test_an_error_of_ours_says_its_facts() -> None:
    error = CheckpointNotFoundError("There is no checkpoint.", path="/etc/weights", num_bytes=3)
    document = json.loads(JsonFormatter("command").format(record("failed", error=error)))
    assert document["error"] == "CheckpointNotFoundError: There is no checkpoint. path=/etc/weights num_bytes=3"


def test_the_level_is_for_our_lines_and_others_are_heard_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    names: tuple[str | None, ...] = (None, *OURS)
    before = [(name, logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names]
    try:
        write_to(None, "debug", "json")
        for heard in ("plumbline_serve.x", "httpx"):
            logging.getLogger(heard).debug("%s debugs", heard)
            logging.getLogger(heard).warning("%s warns", heard)
    finally:
        for name, handlers, level in before:
            logging.getLogger(name).handlers[:] = handlers
            logging.getLogger(name).setLevel(level)
    said = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["plumbline_serve.x debugs", "plumbline_serve.x warns", "httpx warns"]
