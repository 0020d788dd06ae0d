"""Addresses that cannot work are refused when a client is made; what else answers at one is said, not waited for."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from starlette.responses import PlainTextResponse, RedirectResponse

from plumbline_client import (
    AsyncClient,
    AsyncGrpcClient,
    Client,
    ConnectError,
    GrpcClient,
    Item,
    ProblemError,
    RetryPolicy,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_client.addresses import base_url, grpc_target

REST: list[type] = [Client, AsyncClient]
GRPC: list[type] = [GrpcClient, AsyncGrpcClient]
ONCE = RetryPolicy(max_attempts=1)


async def ask(kind: type, address: str, method: str, *arguments: Any, **options: Any) -> Any:
    client = kind(address, retry=ONCE, **options)
    function = getattr(client, method)
    if kind in (AsyncClient, AsyncGrpcClient):
        async with client:
            return await function(*arguments)
    with client:
        return await asyncio.to_thread(function, *arguments)


@pytest.fixture
def no_http() -> Iterator[str]:
    """A port where a mail server answers."""
    listening = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"220 mail.example ESMTP ready, HELO\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1024):
                    pass

    thread = threading.Thread(target=greet)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("scores.example", "http://scores.example"),
        ("[::1]:8000", "http://[::1]:8000"),
        (" https://host/behind/a/proxy/\n", "https://host/behind/a/proxy"),
        ("user:hush@host:1", "http://user:hush@host:1"),
    ],
)
def test_a_base_url_without_a_scheme_is_one_of_http(given: str, read: str) -> None:
    assert base_url(given) == read


@pytest.mark.parametrize("given", ["localhost:9000", "[::1]:9000", "dns:///host:9000", "unix:/run/plumbline.sock"])
def test_a_grpc_target_is_host_and_port_or_a_name_of_grpc(given: str) -> None:
    assert grpc_target(given) == given


@pytest.mark.parametrize("kind", REST)
@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param("", "no host", id="empty"),
        pytest.param("http://", "no host", id="no host"),
        pytest.param("ftp://host", "scheme", id="ftp"),
        pytest.param("grpc://host:9000", "scheme", id="grpc"),
        pytest.param("http://[::1", "port", id="open bracket"),
        pytest.param("http://my host:8000", "spaces", id="space"),
        pytest.param("http://host:99999", "99999", id="port too large"),
        pytest.param("http://host:8000/?a=b", "path", id="query"),
        pytest.param(None, "text", id="none"),
    ],
)
def test_an_address_that_is_no_base_url_is_refused(kind: type, address: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        kind(address)


@pytest.mark.parametrize("kind", GRPC)
@pytest.mark.parametrize(
    "address", ["", "localhost", "http://localhost:9000", "HTTPS://h:1", "a b:1", "host:0", "host:99999", "h:1/x", None]
)
def test_an_address_that_is_no_target_is_refused(kind: type, address: Any) -> None:
    with pytest.raises(UsageError, match="gRPC target"):
        kind(address)


@pytest.mark.parametrize("kind", [Client, GrpcClient])
def test_an_error_of_an_address_shows_no_password(kind: type) -> None:
    with pytest.raises(UsageError) as caught:
        kind("ftp://user:hush@host")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("kind", [*REST, *GRPC])
async def test_an_error_names_the_address(kind: type, nobody: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConnectError, match=rf"{nobody} was not reached"):
        await ask(kind, nobody, "score", [Item(text="a")])
    with caplog.at_level(logging.INFO, "plumbline_client"):
        assert await ask(kind, nobody, "ready") is False
    assert f"{nobody} was not reached" in caplog.text


@pytest.mark.parametrize("kind", [*REST, *GRPC])
async def test_what_is_no_service_is_never_waited_for(kind: type, no_http: str) -> None:
    with pytest.raises(UnexpectedReplyError, match=no_http):
        await ask(kind, no_http, "ready")


@pytest.mark.parametrize("kind", REST)
async def test_tls_where_none_is_spoken_is_said(kind: type, rest_server) -> None:
    with pytest.raises(UnexpectedReplyError, match=r"no TLS with https://127\.0\.0\.1"):
        await ask(kind, rest_server.url.replace("http", "https"), "ready")


@pytest.mark.parametrize("kind", GRPC)
async def test_tls_where_none_is_spoken_is_said_by_grpc(kind: type, grpc_server) -> None:
    with pytest.raises(UnexpectedReplyError, match=grpc_server.target):
        await ask(kind, grpc_server.target, "ready", credentials=grpc.ssl_channel_credentials())


async def test_each_protocols_port_is_told_from_the_others(rest_server, grpc_server) -> None:
    with pytest.raises(UnexpectedReplyError):
        await ask(Client, grpc_server.target, "ready")
    with pytest.raises(UnexpectedReplyError):
        await ask(GrpcClient, rest_server.url.removeprefix("http://"), "ready")


@pytest.mark.parametrize("page", ["<html>Welcome</html>", '{"status": "up"}'])
async def test_anothers_page_is_no_ready_service(rest_server, page: str) -> None:
    rest_server.answers = [PlainTextResponse(page)]
    with pytest.raises(UnexpectedReplyError, match=r"/readyz is not one of Plumbline"):
        await ask(Client, rest_server.url, "ready")


async def test_a_redirection_is_said_with_its_aim(rest_server) -> None:
    rest_server.answers = [RedirectResponse("https://scores.example/v1/score", 308)]
    with pytest.raises(UnexpectedReplyError, match=r"https://scores\.example"):
        await ask(Client, rest_server.url, "score", [Item(text="a")])


async def test_an_answer_without_a_reason_names_who_gave_it(rest_server) -> None:
    rest_server.answers = [PlainTextResponse("", 502)]
    with pytest.raises(ProblemError, match=rf"{rest_server.url}/v1/score answered 502"):
        await ask(Client, rest_server.url, "score", [Item(text="a")])
