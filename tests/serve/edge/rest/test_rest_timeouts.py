import pytest


def received_timeout(edge, header: str | None, body: float | None) -> float | None:
    document = {"items": [{"text": "a"}]} | ({} if body is None else {"timeout_ms": body})
    headers = {} if header is None else {"x-request-timeout-seconds": header}
    edge.post("/v1/score", document, headers=headers)
    return edge.service.received[-1].timeout_ms


@pytest.mark.parametrize(
    ("header", "body", "at_most"),
    [
        pytest.param(None, 90_000.0, 90_000, id="body"),
        pytest.param("90", None, 90_000, id="header"),
        pytest.param("90.5", 80_000, 80_000, id="body is smaller"),
        pytest.param("70", 80_000, 70_000, id="header is smaller"),
    ],
)
def test_the_service_gets_what_is_left_of_the_smaller_timeout(edge, header, body, at_most: float) -> None:
    left = received_timeout(edge, header, body)
    assert left is not None
    assert at_most / 2 < left < at_most  # half of it is over a minute: the machine may be busy


def test_without_a_timeout_there_is_none(edge) -> None:
    assert received_timeout(edge, None, None) is None


@pytest.mark.parametrize("header", ["0", "-1", "soon", "", "nan", "inf", "1e3", "0x10", "1,5", "1" * 400])
def test_a_header_that_is_no_timeout_is_refused(edge, header: str) -> None:
    reply = edge.post("/v1/score", {"items": []}, headers={"x-request-timeout-seconds": header})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_field")
    assert edge.service.received == []


def test_a_timeout_that_passed_while_the_request_arrived_is_a_deadline_exceeded(edge) -> None:
    reply = edge.post("/v1/score", {"items": [{"text": "a"}], "timeout_ms": 1e-6})
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline_exceeded")
    assert edge.service.received == []
