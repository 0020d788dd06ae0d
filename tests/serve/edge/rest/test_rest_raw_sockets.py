"""What no well-behaved HTTP client sends."""

import socket

import pytest

from plumbline_serve.edge.rest import middleware

WAIT_S = 30.0
HANG = b'{"items":[{"text":"hang"}]}'


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def exchange(edge, sent: bytes, *, half_close: bool = False) -> bytes:
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(sent)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            if b"}" in received:
                break
        return received


def is_alive(edge) -> bool:
    return edge.http.get("/livez").status_code == 200


def test_a_caller_that_hangs_up_stops_the_work(edge) -> None:
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(head("/v1/score", "Content-Type: application/json", f"Content-Length: {len(HANG)}") + HANG)
        assert edge.service.hanging.acquire(timeout=WAIT_S)
    assert edge.service.cancelled.acquire(timeout=WAIT_S)
    edge.notebook.wait_for(("/v1/score", "rest", "499"))
    assert is_alive(edge)


@pytest.mark.parametrize(
    ("kind", "begun"),
    [("application/json", b'{"texts":'), ("multipart/form-data; boundary=b", b"--b\r\nContent-Dispo")],
    ids=["JSON", "form"],
)
def test_a_caller_that_hangs_up_while_sending_is_counted_as_gone(edge, kind: str, begun: bytes) -> None:
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(head("/v1/embed", f"Content-Type: {kind}", "Content-Length: 1000") + begun)
    edge.notebook.wait_for(("/v1/embed", "rest", "499"))
    assert edge.service.received == []
    assert is_alive(edge)


def test_a_body_that_does_not_come_is_not_waited_for_longer_than_its_caller_waits(edge) -> None:
    lines = ("Content-Type: application/json", "Content-Length: 9", "X-Request-Timeout-Seconds: 0.1")
    answer = exchange(edge, head("/v1/score", *lines) + b"{")
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"too long to arrive" in answer
    assert is_alive(edge)


def test_a_declared_length_over_the_limit_is_refused_before_a_byte_of_it_is_sent(edge) -> None:
    declared = head("/v1/score", "Content-Type: application/json", f"Content-Length: {2**20 + 1}")
    assert exchange(edge, declared).startswith(b"HTTP/1.1 413 ")


def test_a_caller_that_waits_for_leave_is_refused_without_it(edge) -> None:
    declared = head("/v1/score", "Content-Type: application/json", f"Content-Length: {2**30}", "Expect: 100-continue")
    assert exchange(edge, declared).startswith(b"HTTP/1.1 413 ")


TOO_LARGE = ("Content-Type: application/json", f"Content-Length: {2**40}")
REFUSED = [
    pytest.param(head("/v1/score", *TOO_LARGE), 413, id="too large"),
    pytest.param(head("/v1/score", "Content-Type: text/plain", "Transfer-Encoding: chunked"), 415, id="wrong type"),
    pytest.param(head("/v1/nothing", *TOO_LARGE), 404, id="no such route"),
    pytest.param(head("/livez", *TOO_LARGE), 405, id="wrong method"),
]


@pytest.mark.parametrize(("sent", "status"), REFUSED)
def test_a_refusal_before_the_body_ends_the_connection(
    edge, sent: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "LINGER_BYTES", 2**20)
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(sent)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
        with pytest.raises(ConnectionError):
            connection.sendall(chunk * 2**14)


def test_a_refusal_of_what_is_already_there_is_read_before_the_connection_ends(edge) -> None:
    body = bytes(2**20)
    lines = ("Content-Type: text/plain", f"Content-Length: {len(body)}")
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(head("/v1/score", *lines) + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 415 ")
    assert received.endswith(b"}")


def test_a_request_that_was_read_to_its_end_leaves_the_connection_open(edge) -> None:
    body = b"{"
    one = head("/v1/embed", "Content-Type: application/json", f"Content-Length: {len(body)}") + body
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        for _ in range(2):
            connection.sendall(one)
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", ["-1", "abc", "1" * 30, "9" * 5000])
def test_a_length_that_is_none_is_refused(edge, length: str) -> None:
    reply = exchange(edge, head("/v1/score", "Content-Type: application/json", f"Content-Length: {length}"))
    assert reply.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
    assert is_alive(edge)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"], ids=repr)
def test_what_is_no_http_is_refused_and_harms_nobody(edge, sent: bytes) -> None:
    assert b" 400 " in exchange(edge, sent, half_close=True)
    assert is_alive(edge)


def test_a_chunked_body_over_the_limit_is_refused(edge) -> None:
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    sent = head("/v1/score", "Content-Type: application/json", "Transfer-Encoding: chunked") + chunk * 17
    assert exchange(edge, sent).startswith(b"HTTP/1.1 413 ")


def test_a_form_may_arrive_byte_by_byte(edge) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n{"texts":["abc"]}\r\n--b--\r\n'
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(
            head("/v1/embed", "Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(body)}")
        )
        for byte in body:
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_several_requests_share_a_connection(edge) -> None:
    body = b'{"texts":["abc"]}'
    one = head("/v1/embed", "Content-Type: application/json", f"Content-Length: {len(body)}") + body
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(one * 3)
        received = b""
        while received.count(b"HTTP/1.1 200 ") < 3:
            received += connection.recv(65536)


def test_a_websocket_is_refused(edge) -> None:
    sent = "\r\n".join(
        [
            "GET /v1/score HTTP/1.1",
            "Host: x",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            "",
            "",
        ]
    )
    assert exchange(edge, sent.encode(), half_close=True).startswith(b"HTTP/1.1 4")
