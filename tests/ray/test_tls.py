"""TLS on both ports, with certificates of callers: HAProxy ends it, and nothing is served beside it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from plumbline_client import Client, GrpcClient, Image, Item, RetryPolicy, Tls
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.certificates import Authority, Pair
from tests.services import RunningService, start_service

pytestmark = pytest.mark.ray
WAIT_S = 60.0
ONCE = RetryPolicy(max_attempts=1)


@dataclass(frozen=True)
class Guarded:
    """A service that asks callers for certificates, and what they need."""

    running: RunningService
    authority: Authority
    client: Pair

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.running.port}"

    def context(self, *, has_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.file)
        if has_certificate:
            context.load_cert_chain(self.client.cert, self.client.key)
        return context

    def serial(self) -> str:
        """Of the certificate that the REST port shows."""
        with (
            socket.create_connection(("127.0.0.1", self.running.port), timeout=WAIT_S) as plain,
            self.context().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            shown: Any = secure.getpeercert()
            return str(shown["serialNumber"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    own, client = authority.sign("service"), authority.sign("client", is_server=False)
    config = (
        "backend: torch\nscorers: {clipscore: {}}\n"
        f"tls: {{cert: {own.cert.name}, key: {own.key.name}, client_ca: {authority.file.name}}}\n"
        "edge: {pages: false}\n"
    )
    running = start_service(folder, config, PLUMBLINE_CACHE_DIR=str(folder / "cache"))
    yield Guarded(running, authority, client)
    assert running.terminate() == 0


def test_rest_answers_over_tls_to_callers_with_a_certificate(guarded: Guarded) -> None:
    with httpx.Client(verify=guarded.context(), trust_env=False) as client:
        reply = client.get(f"{guarded.url}/v1/scorers")
    assert reply.status_code == 200
    assert reply.headers["strict-transport-security"] == "max-age=31536000"


def test_rest_is_refused_without_a_certificate_and_in_the_clear(guarded: Guarded) -> None:
    with (
        httpx.Client(verify=guarded.context(has_certificate=False), trust_env=False) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get(f"{guarded.url}/livez")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{guarded.running.url}/livez", trust_env=False)


def test_a_certificate_of_another_authority_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").sign("client", is_server=False)
    context = guarded.context(has_certificate=False)
    context.load_cert_chain(other.cert, other.key)
    with httpx.Client(verify=context, trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(f"{guarded.url}/livez")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_what_is_older_than_tls_1_2_is_refused(guarded: Guarded) -> None:
    context = guarded.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", guarded.running.port), timeout=WAIT_S) as plain,
        pytest.raises(ssl.SSLError, match="alert protocol version"),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_grpc_answers_over_tls_to_callers_with_a_certificate_alone(guarded: Guarded) -> None:
    root = guarded.authority.file.read_bytes()
    own = guarded.client.key.read_bytes(), guarded.client.cert.read_bytes()
    codes = []
    for credentials in (grpc.ssl_channel_credentials(root, *own), grpc.ssl_channel_credentials(root), None):
        target = guarded.running.target
        channel = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
        with channel:
            try:
                scoring_pb2_grpc.ScoringStub(channel).ListScorers(pb.ListScorersRequest(), timeout=WAIT_S)
                codes.append("OK")
            except grpc.RpcError as error:
                codes.append(error.code().name)
    assert codes == ["OK", "UNAVAILABLE", "UNAVAILABLE"]


def test_without_pages_there_is_no_reflection_either(guarded: Guarded) -> None:
    own = guarded.client.key.read_bytes(), guarded.client.cert.read_bytes()
    credentials = grpc.ssl_channel_credentials(guarded.authority.file.read_bytes(), *own)
    with grpc.secure_channel(guarded.running.target, credentials) as channel:
        asked = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as refused:
            list(asked(iter([b""]), timeout=WAIT_S))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with httpx.Client(verify=guarded.context(), trust_env=False) as client:
        assert client.get(f"{guarded.url}/docs").status_code == 404


def test_the_clients_score_over_tls(guarded: Guarded, png_of) -> None:
    tls = Tls(ca=guarded.authority.file, cert=guarded.client.cert, key=guarded.client.key)
    items = [Item(Image.data(png_of(1)), "a red circle")]
    with Client(guarded.url, tls=tls, retry=ONCE) as rest:
        over_rest = rest.score(items).results[0].value("clipscore")
    with GrpcClient(f"grpcs://{guarded.running.target}", tls=tls, retry=ONCE) as rpcs:
        assert rpcs.score(items).results[0].value("clipscore") == over_rest


def test_a_new_certificate_is_shown_without_a_restart_and_connections_stay(guarded: Guarded) -> None:
    before = guarded.serial()
    with httpx.Client(verify=guarded.context(), base_url=guarded.url, trust_env=False) as kept:
        assert kept.get("/livez").status_code == 200
        guarded.authority.sign("service")
        for _ in range(int(WAIT_S * 4)):
            if guarded.serial() != before:
                break
            threading.Event().wait(0.25)
        assert guarded.serial() != before
        assert kept.get("/livez").status_code == 200
