import json
import logging
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from plumbline_client.grpc_problems import problem_document
from plumbline_models.core.errors import (
    CapacityError,
    CheckpointNotFoundError,
    EngineError,
    InvalidFieldError,
    MalformedRequestError,
    OverloadedError,
    PlumblineError,
    error_classes,
)
from plumbline_serve.edge.grpc.status import MAX_DETAIL_BYTES, grpc_code, status
from plumbline_serve.edge.observe import Unobserved
from plumbline_serve.edge.problems import (
    INTERNAL_DETAIL,
    MAX_CAUSES,
    TYPE_BASE,
    http_headers,
    problem,
    refuse,
    report_items,
)
from plumbline_serve.logs import JsonFormatter
from plumbline_serve.messages import EmbedReply, ItemFailure, ItemScores, ScoreReply, Timing

DOCS = Path(__file__).parents[3] / "docs" / "problems.md"
FAULTS = [{"pointer": "/items/0", "detail": "must be an object"}]


def details_of(error: PlumblineError, kind: type) -> list[Any]:
    found = []
    for packed in status(error).details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.code)
def test_the_page_lists_every_error_with_its_status_and_grpc_code(kind: type[PlumblineError]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+ \| `\w+`) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows[kind.code] == f"{kind.status} | `{grpc_code(kind('Why.')).name}`"


def test_the_page_lists_no_error_that_is_gone() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \| \d+", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {kind.code for kind in error_classes()}


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.code)
def test_every_problem_has_the_members_of_the_contract(kind: type[PlumblineError]) -> None:
    document = problem(kind("Why."), "abc")
    assert document["type"] == TYPE_BASE + kind.code.replace("_", "-")
    assert (document["title"], document["status"], document["code"]) == (kind.title, kind.status, kind.code)
    assert document["detail"] == ("Why." if kind.status < 500 or kind.status > 500 else INTERNAL_DETAIL)
    assert document["request_id"] == "abc"
    assert json.loads(json.dumps(document)) == document


def test_the_problem_of_an_item_names_no_request() -> None:
    assert "request_id" not in problem(MalformedRequestError("Why."))


def test_faulty_fields_are_listed_on_both_wires() -> None:
    error = InvalidFieldError("Why.", errors=FAULTS)
    assert problem(error)["errors"] == FAULTS
    (request,) = details_of(error, error_details_pb2.BadRequest)
    assert [(each.field, each.description) for each in request.field_violations] == [("/items/0", "must be an object")]


@pytest.mark.parametrize("errors", ["text", [1], [{"pointer": "/x"}], None], ids=repr)
def test_facts_of_another_shape_are_not_shown(errors: object) -> None:
    assert "errors" not in problem(InvalidFieldError("Why.", errors=errors))


@pytest.mark.parametrize(
    ("seconds", "header", "ms"),
    [(0.0, "1", 0), (0.2, "1", 200), (1.0, "1", 1000), (1.0001, "2", 1001), (29.5, "30", 29500)],
)
def test_retry_after_is_rounded_up(seconds: float, header: str, ms: int) -> None:
    error = OverloadedError("Full.", retry_after_s=seconds)
    assert http_headers(error)["retry-after"] == header
    assert problem(error)["retry_after_ms"] == ms
    (retry,) = details_of(error, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == ms


def test_a_refusal_for_lack_of_time_says_why_and_how_long_it_would_have_taken() -> None:
    error = OverloadedError("Late.", reason="deadline", estimated_wait_ms=1234, encoder="/secret")
    told = {"reason": "deadline", "estimated_wait_ms": 1234}
    assert told.items() <= problem(error).items()
    assert told.items() <= problem_document(status(error)).items()
    assert "/secret" not in str(problem(error)) + str(status(error))


def test_only_capacity_errors_promise_that_a_retry_helps() -> None:
    for kind in error_classes():
        promises = "retry-after" in http_headers(kind("Why."))
        assert (
            promises == issubclass(kind, CapacityError) == bool(details_of(kind("Why."), error_details_pb2.RetryInfo))
        )


def test_a_status_names_the_error_as_google_rpc_does() -> None:
    (info,) = details_of(InvalidFieldError("Why."), error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INVALID_FIELD", "plumbline")
    assert dict(info.metadata) == {
        "status": "422",
        "title": "Invalid field",
        "type": TYPE_BASE + "invalid-field",
    }
    assert status(InvalidFieldError("Why.")).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_long_detail_is_cut_between_characters() -> None:
    message = status(MalformedRequestError("é" * MAX_DETAIL_BYTES + "x")).message
    assert message == "é" * (MAX_DETAIL_BYTES // 2)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("no /etc/secret"), id="a bug"),
        pytest.param(CheckpointNotFoundError("There is no /etc/secret.", path="/etc/secret"), id="a broken set-up"),
        pytest.param(PlumblineError("At /etc/secret."), id="the root of the tree"),
    ],
)
def test_what_fails_inside_is_logged_in_full_and_shown_in_one_sentence(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        visible = refuse(error, "the-id", Unobserved())
    shown = json.dumps(problem(visible, "the-id")) + str(status(visible)) + str(http_headers(visible))
    assert "secret" not in shown
    assert INTERNAL_DETAIL in shown
    [line] = lines(caplog)
    assert "secret" in line["error"]
    assert line["request_id"] == "the-id"


def test_what_is_refused_is_left_to_the_line_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refuse(MalformedRequestError("Broken.", offset=3), "the-id", Unobserved())
    assert not caplog.records


def test_items_that_fail_inside_are_a_line_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    failed = [ItemFailure(str(index), EngineError("No number.", encoder="mini/image")) for index in range(6)]
    lost = ItemScores(
        "x", {"sum": PlumblineError("Lost.", cause="ZeroDivisionError()"), "other": InvalidFieldError("?")}
    )
    report_items(ScoreReply([*failed, lost, ItemFailure("y", InvalidFieldError("?"))], Timing(0, 0, 0, 0)), "the-id")
    first, second = lines(caplog)
    assert (first["request_id"], first["failed"], first["count"]) == ("the-id", ["0", "1", "2", "3"], 6)
    assert first["cause"] == "EngineError: No number. encoder=mini/image"
    assert (second["failed"], second["cause"]) == (["6 sum"], "PlumblineError: Lost. cause=ZeroDivisionError()")


def test_an_answer_with_very_many_causes_is_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    vectors = [EngineError("No number.", batch=index) for index in range(256)]
    report_items(EmbedReply("mini/image", 3, vectors, Timing(0, 0, 0, 0)), "the-id")
    assert len(caplog.records) == MAX_CAUSES + 1
    assert lines(caplog)[-1]["count"] == 248


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The log as it is written."""
    return [json.loads(JsonFormatter("test").format(record)) for record in caplog.records]
