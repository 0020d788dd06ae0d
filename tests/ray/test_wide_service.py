"""A service laid out wide: encoders of their own, two gateways that count keys in a Redis, images by their URL."""

import base64
import csv
import itertools
import pickle
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import trustme
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from plumbline_serve.launch.ray_environment import temp_dir
from plumbline_serve.store.store import LOOK_AGAIN_S
from tests.keys import add_key
from tests.redis_server import RedisServer, running_redis
from tests.services import RunningService, encoded, picture, start_service

pytestmark = pytest.mark.ray
WAIT_S = 60.0
NUM_GATEWAYS = 2
COUNTED, FREE = "a-counted-key", "a-free-key"
ITEMS_AN_HOUR = 20
NUM_CALLS, ITEMS_A_CALL = 8, 5
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONFIG = """
edge: {{compat: [openai, open_inference, flow_grpo]}}
tracing: {{otlp_endpoint: "{collector}"}}
replicas: {{layout: split, num_gateways: 2, num_encoders: 1}}
auth: {{keys_file: {keys}, limits_url: "{redis}"}}
store: sqlite:///store.db
urls:
  enabled: true
  allow_hosts: [127.0.0.1]
  allow_networks: [127.0.0.0/8]
  allow_ports: [{port}]
  ca_file: {authority}
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans of one trace, by name."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        self.spans |= {span.name: span for scope in scopes for span in scope.spans if span.trace_id.hex() == TRACE}
        return trace_service_pb2.ExportTraceServiceResponse()


class ImageHost(BaseHTTPRequestHandler):
    """Has one image, and a way to where images may not come from."""

    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("location", "https://169.254.169.254/latest/meta-data/")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        image = encoded(picture(5), "PNG")
        self.send_response(200)
        self.send_header("content-length", str(len(image)))
        self.end_headers()
        self.wfile.write(image)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@dataclass
class Wide:
    """The running service and what is around it."""

    service: RunningService
    host: str
    """Of images, as URLs begin."""
    collector: Collector

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.service.url, headers={"authorization": f"Bearer {key}"}, timeout=WAIT_S)

    def num_answered(self) -> list[int]:
        """Requests of REST that each gateway has had, as HAProxy counts them."""
        folders = Path(temp_dir()).glob("plumbline-*")
        (path,) = (
            found
            for folder in folders
            for configuration in folder.rglob("haproxy.cfg")
            if f"127.0.0.1:{self.service.port}" in configuration.read_text(encoding="utf-8").split()
            for found in folder.rglob("s")
        )
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(path))
            admin.sendall(b"show stat\n")
            text = b"".join(iter(lambda: admin.recv(2**16), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        ours = [row for row in rows if row["svname"].startswith("SERVE_REPLICA") and row["pxname"].startswith("http")]
        return [int(row["stot"]) for row in ours if not row["pxname"].endswith("-probes")]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis"), password="a-password") as server:
        yield server


@pytest.fixture(scope="module")
def wide(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory, engine_cache: str) -> Iterator[Wide]:
    folder = tmp_path_factory.mktemp("wide")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    add_key(folder / "keys.yaml", COUNTED, rate=f"{ITEMS_AN_HOUR}/hour")
    keys = add_key(folder / "keys.yaml", FREE, scopes=("score", "decide", "admin"))
    with ExitStack() as stack:
        host = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), ImageHost))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        host.socket = context.wrap_socket(host.socket, server_side=True)
        threading.Thread(target=host.serve_forever, daemon=True).start()
        stack.callback(host.shutdown)
        port = host.server_address[1]
        collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        spans_to = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        stack.callback(lambda: server.stop(None).wait())
        config = CONFIG.format(keys=keys, redis=redis.url, port=port, authority=folder / "ca.pem", collector=spans_to)
        service = start_service(folder, config, PLUMBLINE_CACHE_DIR=engine_cache)
        found = Wide(service, f"https://127.0.0.1:{port}", collector)
        until = time.monotonic() + WAIT_S
        while len(found.num_answered()) < NUM_GATEWAYS:  # HAProxy hears of the second one a little later
            assert time.monotonic() < until
            time.sleep(0.2)
        yield found
        assert service.terminate() == 0


def body(seed: int, num_items: int, **fields: Any) -> dict[str, Any]:
    """Items with an image and texts of their own."""
    image = {"b64": base64.b64encode(encoded(picture(seed), "PNG")).decode()}
    items = [{"image": "a", "text": f"a red circle {seed} {number}"} for number in range(num_items)]
    return {"images": {"a": image}, "items": items, "scorers": ["clipscore"], **fields}


def test_a_key_is_counted_over_both_gateways_together(wide: Wide) -> None:
    before = wide.num_answered()
    replies = []
    for seed in range(NUM_CALLS):
        with wide.client(COUNTED) as client:  # a connection of its own
            replies.append(client.post("/v1/score", json=body(seed, ITEMS_A_CALL)))
    assert all(now > was for now, was in zip(wide.num_answered(), before, strict=True))
    num_taken = ITEMS_AN_HOUR // ITEMS_A_CALL
    assert [reply.status_code for reply in replies] == [200] * num_taken + [429] * (NUM_CALLS - num_taken)


def drift_of(wide: Wide) -> dict[str, Any]:
    with wide.client(FREE) as client:
        return dict(client.get("/v1/drift").json()["scorers"]["clipscore"])


def test_drift_is_of_what_both_gateways_gave_and_a_classifier_is_known_to_both(wide: Wide) -> None:
    values = [0.1 + index / 1000 for index in range(200)]
    with wide.client(FREE) as client:
        assert client.post("/v1/references", json={"scorer": "clipscore", "values": values}).status_code == 200
    first, before = drift_of(wide)["m"], wide.num_answered()
    for seed in range(50, 70):
        with wide.client(FREE) as client:
            assert client.post("/v1/score", json=body(seed, 6)).status_code == 200
    assert all(now > was for now, was in zip(wide.num_answered(), before, strict=True))
    found = drift_of(wide)
    assert (found["m"] - first, found["n"]) == (120, 200)
    assert found["psi"] > 0
    with wide.client(FREE) as client:
        live = client.post("/v1/references", json={"scorer": "clipscore", "from_live": True}).json()
    assert live["n"] == found["m"]
    shown = {name: [{"b64": base64.b64encode(encoded(picture(i), "PNG")).decode()} for i in seeds]
             for name, seeds in (("yes", (1, 2)), ("no", (3, 4)))}  # fmt: skip
    learnt = {"name": "both", "classes": shown, "prompts": {"yes": "a red ring", "no": "a star"}}
    with wide.client(FREE) as client:
        assert client.post("/v1/classifiers", json=learnt).status_code == 200
    time.sleep(2 * LOOK_AGAIN_S)  # by when every gateway sees what is kept
    assert drift_of(wide)["m"] == 0  # all that was counted is in the reference
    for seed in range(70, 78):
        with wide.client(FREE) as client:
            reply = client.post("/v1/score", json=body(seed, 1) | {"scorers": ["classifier:both"]})
        assert 0 <= reply.json()["results"][0]["scores"]["classifier:both"]["value"] <= 1
    with wide.client(FREE) as client:
        assert "plumbline_drift_window_scores" in client.get("/metrics").text


def test_without_a_key_nobody_is_answered_but_probes(wide: Wide) -> None:
    with httpx.Client(base_url=wide.service.url, timeout=WAIT_S) as client:
        assert client.post("/v1/score", json=body(0, 1)).status_code == 401
        assert client.get("/metrics").status_code == 401
        assert client.get("/readyz").status_code == 200


def test_a_calibration_that_one_gateway_keeps_is_used_by_both(wide: Wide) -> None:
    labelled = {"scores": [0.0] * 19, "labels": [True] * 19}
    made = {"name": "launch", "scorer": "clipscore", "alpha": 0.05, "direction": "keep_good", **labelled}
    policy = {"all": [{"scorer": "clipscore", "calibration": "launch"}]}
    items = {key: value for key, value in body(50, 1).items() if key != "scorers"}

    def replies(before: list[int]) -> list[httpx.Response]:
        time.sleep(LOOK_AGAIN_S)  # then each gateway looks again
        found = []
        for _ in range(2 * NUM_CALLS):
            with wide.client(FREE) as client:  # a connection of its own
                found.append(client.post("/v1/filter", json={"policy": policy, **items}))
        assert all(now > was for now, was in zip(wide.num_answered(), before, strict=True))
        return found

    with wide.client(FREE) as client, wide.client(COUNTED) as reader:
        assert reader.post("/v1/calibrations", json=made).status_code == 403
        assert client.post("/v1/calibrations", json=made).json()["threshold"] == 0.0
        for reply in replies(wide.num_answered()):
            assert [each["verdict"] for each in reply.json()["results"]] == ["accept"]
        assert client.delete("/v1/calibrations/launch").status_code == 200
        assert {reply.json()["code"] for reply in replies(wide.num_answered())} == {"unknown_artefact"}


def test_an_image_by_its_url_scores_as_the_same_image_sent(wide: Wide) -> None:
    sources = [{"url": f"{wide.host}/a.png"}, {"b64": base64.b64encode(encoded(picture(5), "PNG")).decode()}]
    items = [{"image": source, "text": "a red circle"} for source in sources]
    with wide.client(FREE) as client:
        found, sent = client.post("/v1/score", json={"items": items}).json()["results"]
    assert found["status"] == "ok"
    assert found["scores"] == sent["scores"]


@pytest.mark.parametrize("path", ["{host}/away", "https://169.254.169.254/latest/meta-data/", "https://127.0.0.1:1/a"])
def test_an_address_that_images_may_not_come_from_fails_its_item_alone(wide: Wide, path: str) -> None:
    document = body(9, 1)
    document["items"].append({"image": {"url": path.format(host=wide.host)}, "text": "a red circle"})
    with wide.client(FREE) as client:
        sent, fetched = client.post("/v1/score", json=document).json()["results"]
    assert (sent["status"], fetched["status"]) == ("ok", "error")
    assert fetched["error"]["status"] < 500


def test_a_trace_goes_from_the_caller_through_the_gateway_to_the_replica_of_the_group(wide: Wide) -> None:
    with wide.client(FREE) as client:
        reply = client.post("/v1/score", json=body(40, 1), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert reply.status_code == 200
    until = time.monotonic() + WAIT_S
    while not {"/v1/score", "encode", "queue", "batch", "engine"} <= wide.collector.spans.keys():
        assert time.monotonic() < until, wide.collector.spans.keys()
        time.sleep(0.1)
    found = wide.collector.spans
    assert found["/v1/score"].parent_span_id.hex() == PARENT
    assert found["encode"].parent_span_id == found["/v1/score"].span_id


def test_other_services_wire_formats_are_spoken_through_both_ports(wide: Wide) -> None:
    image = encoded(picture(41), "PNG")
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{wide.service.grpc_port}")
    inputs = [
        tritonclient.grpc.InferInput("IMAGE", [1, 1], "BYTES"),
        tritonclient.grpc.InferInput("TEXT", [1, 1], "BYTES"),
    ]
    for each, content in zip(inputs, (image, b"a red circle"), strict=True):
        each.set_data_from_numpy(np.array([[content]], dtype=np.object_))
    assert client.is_server_ready()
    headers = {"authorization": f"Bearer {FREE}"}
    inferred = client.infer("clipscore", inputs, headers=headers).as_numpy("SCORE")[0, 0]
    with pytest.raises(tritonclient.utils.InferenceServerException, match="API key"):
        client.infer("clipscore", inputs)
    client.close()
    items = [{"image": {"b64": base64.b64encode(image).decode()}, "text": "a red circle"}]
    with wide.client(FREE) as caller:
        scored = caller.post("/v1/score", json={"items": items, "scorers": ["clipscore"]}).json()["results"][0]
        pickled = caller.post(
            "/compat/clipscore", content=pickle.dumps({"images": [image], "prompts": ["a red circle"]})
        )
        embedded = caller.post("/v1/embeddings", json={"input": "a red circle"}).json()
    value = scored["scores"]["clipscore"]["value"]
    assert pickle.loads(pickled.content)["outputs"] == [value]  # noqa: S301 - our own reply
    assert inferred == np.float32(value)
    assert embedded["data"][0]["object"] == "embedding"


def test_gateways_refuse_what_encoders_cannot_have_done_in_time(wide: Wide) -> None:
    def post(document: dict[str, Any]) -> httpx.Response:
        with wide.client(FREE) as client:
            return client.post("/v1/score", json=document)

    seeds, is_over = itertools.count(100), threading.Event()

    def flood() -> set[int]:
        statuses = set[int]()
        while not is_over.is_set():
            statuses.add(post(body(next(seeds), 64, scorers=["vqascore"])).status_code)
        return statuses

    with ThreadPoolExecutor(24) as callers:
        flooding = [callers.submit(flood) for _ in range(24)]
        try:  # as large as they are: a single item passes them, and may well be in time
            refused = first_refusal(lambda: post(body(next(seeds), 64, scorers=["vqascore"], timeout_ms=150)))
        finally:
            is_over.set()
        for each in flooding:
            assert each.result() <= {200, 429}
    assert refused["code"] == "overloaded"
    assert refused["reason"] in {"deadline", "late"}
    assert refused["estimated_wait_ms"] > 0
    assert post(body(900, 1)).status_code == 200


def first_refusal(ask: Callable[[], httpx.Response]) -> dict[str, Any]:
    """The problem of the first request that is refused; asks until one is."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        reply = ask()
        if reply.status_code == 429:
            return dict(reply.json())
    raise AssertionError("no request was refused")
