"""Traces: a request's spans over both wires, at a collector that takes OTLP; and nothing of it where they are off."""

import asyncio
import base64
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import uvicorn
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from plumbline_models.core.errors import ConfigError
from plumbline_serve.assembly import assemble, local_compute
from plumbline_serve.batching import Batcher
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.edge import Access, GrpcEdge, create_app
from plumbline_serve.edge.grpc.unreadable import add_scoring
from plumbline_serve.metrics import Instruments
from plumbline_serve.settings import Settings
from plumbline_serve.settings.tracing import TracingSettings
from plumbline_serve.tracing import TRACEPARENT, open_tracing
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.programs import program_environment
from tests.serve.conftest import grey_png

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WAIT_S = 30.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        for resource in request.resource_spans:
            self.services |= {each.value.string_value for each in resource.resource.attributes}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    found, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


class Traced:
    """The embedded networks behind both edges as the gateway puts them together, traced."""

    def __init__(self, endpoint: str, cache_dir: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        tracing = open_tracing(TracingSettings(otlp_endpoint=endpoint))
        assert tracing is not None
        self.tracing = tracing
        self.run(self.start(Settings(backend="fake", precision="fp32", scorers={"clipscore": {}}, cache_dir=cache_dir)))

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    async def start(self, settings: Settings) -> None:
        tracing, scorers, instruments = self.tracing, make_scorers(settings), Instruments()
        self.compute = local_compute(settings, encoders_of(scorers.values()), instruments, tracing=tracing)
        assembly = assemble(settings, scorers, compute=self.compute, instruments=instruments)
        await self.compute.start()
        assembly.service.is_loaded = True
        observer = tracing.observer(instruments)
        access = Access.open(settings.auth, observer)
        app = tracing.application(create_app(assembly.service, settings, observer, access=access))
        self.rest = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", port=0))
        self.serving = asyncio.ensure_future(self.rest.serve())
        self.server = grpc.aio.server()
        edge = tracing.rpcs(GrpcEdge(assembly.service, settings, observer, access=access))

        async def stream(requests: Any, context: Any) -> Any:
            async for reply in edge.score_stream(requests, context):
                yield reply

        rpcs = dict.fromkeys(pb.DESCRIPTOR.services_by_name["Scoring"].methods_by_name, edge.score)
        rpcs |= {"Diversity": edge.diversity, "ScoreStream": stream}
        add_scoring(SimpleNamespace(**rpcs), self.server)
        self.grpc_port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        while not self.rest.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        self.url = "http://{}:{}".format(*self.rest.servers[0].sockets[0].getsockname())

    async def stop(self) -> None:
        self.rest.should_exit = True
        await self.serving
        await self.server.stop(None)
        await self.compute.close()

    def close(self) -> None:
        self.run(self.stop())
        self.tracing.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def traced(collector: tuple[Collector, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    found = Traced(collector[1], tmp_path_factory.mktemp("cache"))
    yield found
    found.close()


@pytest.fixture
def spans(traced: Traced, collector: tuple[Collector, str]) -> Any:
    """The spans of what the test asked for, by name, once some of a name are at the collector.

    A request's own span ends after its caller has the reply.
    """
    traced.tracing.flush()
    collector[0].spans.clear()

    def arrived(name: str, num: int = 1) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        until = time.monotonic() + WAIT_S
        while len(found.get(name, ())) < num and time.monotonic() < until:
            traced.tracing.flush()
            found = {}
            for span in collector[0].spans:
                found.setdefault(span.name, []).append(span)
        return found

    return arrived


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def body(seed: int) -> dict[str, Any]:
    image = {"b64": base64.b64encode(grey_png(seed, 40)).decode()}
    return {"items": [{"image": image, "text": f"a red circle {seed}"}], "scorers": ["clipscore"]}


def test_a_request_is_a_span_with_its_queue_its_batch_and_its_engine_below(traced: Traced, spans: Any) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "a-name"}
    assert httpx.post(f"{traced.url}/v1/score", json=body(10), headers=headers, trust_env=False).status_code == 200
    found = spans("/v1/score")
    (edge,) = found["/v1/score"]
    assert (edge.trace_id.hex(), edge.parent_span_id.hex()) == (TRACE, PARENT)
    told = attributes(edge)
    assert told["http.response.status_code"] == 200
    assert told["plumbline.request_id"] == "a-name"
    assert {len(found[name]) for name in ("encode", "queue", "batch", "engine")} == {2}  # an image, and a text
    assert {span.parent_span_id for span in found["encode"]} == {edge.span_id}
    by_encoder = {span.span_id: span for span in found["encode"]}
    batches = {span.span_id: span for span in found["batch"]}
    for span in (*found["queue"], *found["batch"]):
        above = by_encoder[span.parent_span_id]
        assert above.start_time_unix_nano <= span.start_time_unix_nano + 10**6
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    for span in found["engine"]:
        batch = batches[span.parent_span_id]
        assert batch.start_time_unix_nano <= span.start_time_unix_nano + 10**6
        assert span.end_time_unix_nano <= batch.end_time_unix_nano + 10**6
        assert attributes(span)["plumbline.batch_size"] == 1
    assert {span.trace_id.hex() for each in found.values() for span in each} == {TRACE}


def test_grpc_takes_the_trace_from_its_metadata(traced: Traced, spans: Any) -> None:
    metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1")]
    item = pb.Item(image=pb.ImageSource(data=grey_png(20, 40)), text="a red circle 20")
    with grpc.insecure_channel(f"127.0.0.1:{traced.grpc_port}") as channel:
        stub = scoring_pb2_grpc.ScoringStub(channel)
        stub.Score(pb.ScoreRequest(items=[item], scorers=["clipscore"]), metadata=metadata)
        batch = pb.ScoreStreamRequest(correlation_id="1", request=pb.ScoreRequest(items=[item]))
        assert len(list(stub.ScoreStream(iter([batch]), metadata=metadata))) == 1
        assert stub.Diversity(pb.DiversityRequest(images=[item.image]), metadata=metadata).n == 1
    found = spans("plumbline.v1.Scoring/Diversity")
    for name in ("Score", "ScoreStream", "Diversity"):
        (span,) = found[f"plumbline.v1.Scoring/{name}"]
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert span.trace_state == "vendor=1"
        assert attributes(span)["rpc.grpc.status_code"] == "OK"
    assert {span.trace_id.hex() for span in found["engine"]} == {TRACE}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([], id="none"),
        pytest.param([f"00-{'0' * 32}-{PARENT}-01"], id="no trace"),
        pytest.param([f"00-{TRACE}-{'0' * 16}-01"], id="no parent"),
        pytest.param([f"ff-{TRACE}-{PARENT}-01"], id="version"),
        pytest.param([f"00-{TRACE.upper()}-{PARENT}-01"], id="upper case"),
        pytest.param([f"00-{TRACE}-{PARENT}-01-more"], id="more"),
        pytest.param(["x" * 4000], id="long"),
        pytest.param([f"00-{TRACE}-{PARENT}-01"] * 2, id="twice"),
    ],
)
def test_a_header_that_names_no_trace_begins_one_and_fails_nothing(traced: Traced, spans: Any, sent: list[str]) -> None:
    headers = [("traceparent", each) for each in sent]
    assert httpx.get(f"{traced.url}/v1/scorers", headers=headers, trust_env=False).status_code == 200
    (span,) = spans("/v1/scorers")["/v1/scorers"]
    assert span.trace_id.hex() != TRACE
    assert not span.parent_span_id


def test_a_caller_that_does_not_sample_is_followed_and_not_exported(traced: Traced, spans: Any) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert httpx.post(f"{traced.url}/v1/score", json=body(30), headers=headers, trust_env=False).status_code == 200
    assert httpx.get(f"{traced.url}/livez", trust_env=False).status_code == 200
    assert spans("/livez").keys() == {"/livez"}


def test_what_is_refused_says_so_on_its_span(traced: Traced, spans: Any, collector: tuple[Collector, str]) -> None:
    assert httpx.get(f"{traced.url}/etc/secret?key=1", trust_env=False).status_code == 404
    (span,) = spans("unmatched")["unmatched"]
    assert attributes(span)["plumbline.refused"] == "not_found"
    assert "secret" not in str(span)
    assert "plumbline" in collector[0].services


def test_requests_that_share_a_batch_have_spans_of_the_same_number(traced: Traced, spans: Any) -> None:
    documents = [body(seed) for seed in range(100, 116)]
    with ThreadPoolExecutor(16) as callers:
        replies = callers.map(lambda each: httpx.post(f"{traced.url}/v1/score", json=each, trust_env=False), documents)
        assert {reply.status_code for reply in replies} == {200}
    found = spans("/v1/score", 16)
    assert len(found["batch"]) >= 32  # one of each request and encoder
    sizes: dict[int, set[int]] = {}
    for span in found["batch"]:
        told = attributes(span)
        sizes.setdefault(told["plumbline.batch"], set()).add(told["plumbline.batch_size"])
    assert all(len(each) == 1 for each in sizes.values())


def test_a_trace_goes_on_in_another_process_of_ours(traced: Traced) -> None:
    with traced.tracing.server_span("a", [("traceparent", f"00-{TRACE}-{PARENT}-01")]) as above:
        crossing = TRACEPARENT.get()
    assert TRACEPARENT.get() is None
    with traced.tracing.continued(crossing), traced.tracing.tracer.start_as_current_span("b") as below:
        assert below.get_span_context().trace_id == above.get_span_context().trace_id == int(TRACE, 16)
        assert below.parent.span_id == above.get_span_context().span_id  # type: ignore[attr-defined]


def test_where_it_is_off_nothing_is_imported_and_the_classes_are_the_usual_ones(tmp_path: Path) -> None:
    program = """
import sys
from plumbline_serve.deployments import EncoderReplica, Gateway
from plumbline_serve.assembly import assembled
from plumbline_serve.edge import create_app
from plumbline_serve.settings import Settings
from plumbline_serve.tracing import open_tracing
assert open_tracing(Settings().tracing) is None
import plumbline_serve.tracing
print([name for name in sys.modules if name.startswith("plumbline_serve.tracing.")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120,
        env=program_environment(PLUMBLINE_CACHE_DIR=str(tmp_path)),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"
    settings = Settings(backend="fake", scorers={"clipscore": {}}, cache_dir=tmp_path)
    compute = local_compute(settings, encoders_of(make_scorers(settings).values()), Instruments())
    assert compute._make_batcher is Batcher


@pytest.mark.parametrize("endpoint", ["localhost:4317", "http://localhost", "http://user:pass@host:1", "ftp://a:1"])
def test_an_address_that_is_none_of_a_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="collector"):
        TracingSettings(otlp_endpoint=endpoint)


def test_without_opentelemetry_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plumbline_serve.tracing.spans", None)
    with pytest.raises(ConfigError, match="plumbline-serve\\[tracing\\]"):
        open_tracing(TracingSettings(otlp_endpoint="http://localhost:4317"))
