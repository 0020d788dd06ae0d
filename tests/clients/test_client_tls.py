"""The four clients over TLS, against servers that show a certificate, and ask for one."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline_client import (
    AsyncClient,
    AsyncGrpcClient,
    Client,
    ConnectError,
    GrpcClient,
    PlumblineClientError,
    RetryPolicy,
    Tls,
    UsageError,
)
from plumbline_client.addresses import grpc_target
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.certificates import Authority, Pair

ONCE = RetryPolicy(max_attempts=1)
REST, GRPC = (Client, AsyncClient), (GrpcClient, AsyncGrpcClient)


class Scorers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"scorers": []}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class Scoring(scoring_pb2_grpc.ScoringServicer):
    def ListScorers(self, request, context):  # noqa: N802 - named by the schema
        return pb.ListScorersReply()


@dataclass(frozen=True)
class Servers:
    """One of each wire, that asks callers for a certificate."""

    authority: Authority
    client: Pair
    port: int
    grpc_port: int

    def ask(self, kind: Any, **options: Any) -> Any:
        address = f"https://127.0.0.1:{self.port}" if kind in REST else f"grpcs://127.0.0.1:{self.grpc_port}"
        client = kind(address, retry=ONCE, **options)
        if kind in (AsyncClient, AsyncGrpcClient):

            async def call() -> Any:
                async with client:
                    return await client.scorers()

            return asyncio.run(call())
        with client:
            return client.scorers()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    own, client = authority.sign("service"), authority.sign("client", is_server=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Scorers)
    rest.socket = context.wrap_socket(rest.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=rest.serve_forever, args=(0.05,))
    thread.start()
    over_grpc = grpc.server(futures.ThreadPoolExecutor(2))
    servicer: Any = Scoring  # abstract in stubs alone
    scoring_pb2_grpc.add_ScoringServicer_to_server(servicer(), over_grpc)
    credentials = grpc.ssl_server_credentials(
        [(own.key.read_bytes(), own.cert.read_bytes())],
        root_certificates=authority.file.read_bytes(),
        require_client_auth=True,
    )
    port = over_grpc.add_secure_port("127.0.0.1:0", credentials)
    over_grpc.start()
    yield Servers(authority, client, rest.server_address[1], port)
    over_grpc.stop(None)
    rest.shutdown()
    thread.join()
    rest.server_close()


@pytest.mark.parametrize("kind", [*REST, *GRPC])
def test_with_the_authority_and_a_certificate_calls_pass(servers: Servers, kind: Any) -> None:
    tls = Tls(ca=servers.authority.file, cert=servers.client.cert, key=str(servers.client.key))
    assert servers.ask(kind, tls=tls) == ()


@pytest.mark.parametrize("kind", [*REST, *GRPC])
def test_certificate_and_key_may_share_a_file(servers: Servers, kind: Any, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(servers.client.cert.read_bytes() + servers.client.key.read_bytes())
    assert servers.ask(kind, tls=Tls(ca=servers.authority.file, cert=both)) == ()


@pytest.mark.parametrize("kind", [*REST, *GRPC])
@pytest.mark.parametrize("case", ["another authority", "public authorities", "no certificate of its own"])
def test_otherwise_they_do_not(servers: Servers, kind: Any, case: str, tmp_path: Path) -> None:
    tls = {
        "another authority": Tls(Authority(tmp_path).file, servers.client.cert, servers.client.key),
        "public authorities": Tls(cert=servers.client.cert, key=servers.client.key),
        "no certificate of its own": Tls(servers.authority.file),
    }[case]
    with pytest.raises(PlumblineClientError) as caught:
        servers.ask(kind, tls=tls)
    assert not isinstance(caught.value, UsageError)
    if kind in GRPC and case.endswith(("authority", "authorities")):
        assert "of no authority that is trusted here" in caught.value.detail


@pytest.mark.parametrize("kind", [*REST, *GRPC])
def test_a_file_that_is_no_certificate_is_said_before_anything_is_sent(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("no certificate")
    address = "https://127.0.0.1:1" if kind in REST else "grpcs://127.0.0.1:1"
    for tls in (Tls(ca=tmp_path / "a.pem"), Tls(cert=tmp_path / "a.pem"), Tls(ca=tmp_path / "none.pem")):
        with pytest.raises(UsageError, match="certificates cannot be used"):
            kind(address, tls=tls)


@pytest.mark.parametrize("kind", REST)
def test_tls_without_https_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match="https://"):
        kind("http://127.0.0.1:1", tls=Tls())


def test_an_address_of_grpc_over_tls_is_a_target() -> None:
    assert grpc_target("grpcs://host:9000") == "host:9000"
    with pytest.raises(UsageError):
        grpc_target("grpcs://host")


def test_a_client_without_tls_is_not_answered_by_a_server_with_it(servers: Servers) -> None:
    with GrpcClient(f"127.0.0.1:{servers.grpc_port}", retry=ONCE) as client, pytest.raises(ConnectError):
        client.scorers()
