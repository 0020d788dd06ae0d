"""Images by URL through both edges and by every client, from a host on loopback whose network the settings allow."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from plumbline_client import Client, GrpcClient, Image, Item
from plumbline_client.grpc_problems import problem_document
from plumbline_serve.assembly import assemble, local_compute
from plumbline_serve.configured_scorers import encoders_of
from plumbline_serve.metrics import Instruments
from plumbline_serve.settings import Settings
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.serve.fetching.hosts import Host, reply

HOST = "localhost"


@pytest.fixture
def served(open_over, scorers, png, tmp_path) -> Iterator[tuple[Any, Host]]:
    """The edges as the gateway assembles them, and a host that the system's own resolver finds."""
    authority, host = trustme.CA(), Host(_image_at_ten(png(10)))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    with asyncio.Runner() as runner:
        probe = runner.run(asyncio.start_server(host.serve, HOST, 0))
        host.port = probe.sockets[0].getsockname()[1]
        probe.close()
    urls = {
        "enabled": True, "allow_hosts": [HOST], "allow_ports": [host.port], "ca_file": tmp_path / "ca.pem",
        "allow_networks": ["127.0.0.0/8", "::1/128"],
    }  # fmt: skip
    settings, instruments = Settings.model_validate({"urls": urls}), Instruments()
    compute = local_compute(settings, encoders_of(scorers.values()), instruments)
    assembly = assemble(settings, scorers, compute=compute, instruments=instruments)
    edge = open_over(settings, assembly.service)
    server = edge.loop.run(asyncio.start_server(host.serve, HOST, host.port, ssl=context))
    edge.closers.insert(0, lambda: edge.loop.run(compute.close()))
    edge.loop.run(compute.start())
    assembly.service.is_loaded = True
    yield edge, host
    edge.loop.loop.call_soon_threadsafe(server.close)
    edge.loop.run(host.close())


def _image_at_ten(data: bytes) -> Any:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(data) if head.startswith(b"GET /10.png ") else reply(status="403 Forbidden"))

    return answer


def test_both_wires_and_both_clients_score_it_alike(served) -> None:
    edge, host = served
    url = f"https://{HOST}:{host.port}/10.png"
    rest = edge.post("/v1/score", {"items": [{"image": {"url": url}, "text": "abc"}]}).json()
    rpc = edge.rpc.Score(pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(url=url), text="abc")]))
    assert rest["results"][0]["scores"]["product"]["value"] == rpc.results[0].scores["product"].value == 30.0
    with Client(edge.url) as http, GrpcClient(edge.target) as over_grpc:
        for client in (http, over_grpc):
            (result,) = client.score([Item(Image.url(url), "abc")]).results
            assert result.scores["product"].value == 30.0
    assert len(host.asked) == 4


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        pytest.param("https://localhost:{port}/11.png", 422, "url_unreachable", id="not there"),
        pytest.param("https://127.0.0.1:{port}/10.png", 422, "url_source_refused", id="not listed"),
        pytest.param("http://localhost:{port}/10.png", 422, "url_source_refused", id="not https"),
    ],
)
def test_both_wires_say_alike_what_is_wrong(served, url: str, status: int, code: str) -> None:
    edge, host = served
    url = url.format(port=host.port)
    rest = edge.post("/v1/score", {"items": [{"image": {"url": url}, "text": "abc"}]}).json()["results"][0]["error"]
    message = pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(url=url), text="abc")])
    rpc = problem_document(edge.rpc.Score(message).results[0].error)
    assert (rest["status"], rest["code"]) == (status, code)
    assert rpc == rest


def test_the_stage_is_counted(served) -> None:
    edge, host = served
    edge.post("/v1/score", {"items": [{"image": {"url": f"https://{HOST}:{host.port}/10.png"}, "text": "abc"}]})
    assert 'plumbline_stage_duration_seconds_count{stage="fetch"} 1' in edge.http.get("/metrics").text
