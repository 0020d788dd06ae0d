"""The contract, on the real thing: real Ray, real sockets, the embedded encoders."""

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import Sequence

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image as PillowImage
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from plumbline_client import Client, ForbiddenError, GrpcClient, Image, Item, ItemResult, ProblemError
from plumbline_serve.cli.main import cli
from plumbline_serve.local import Plumbline
from plumbline_serve.settings import Limits
from plumbline_wire.v1 import scoring_pb2 as wire
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.services import PATIENT, encoded

pytestmark = pytest.mark.ray
IN_COMPANY = 2e-5  # batches of other sizes add in other orders
IN_COMPANY_BF16 = 5e-3  # the same on 8 bits of mantissa; twice the 2.2e-3 measured of a clipscore, 2.5 times a cosine
TEXTS = ("a red circle", "two blue squares", "a small green star", "A photo depicts a cross.")


def values(results: Sequence[ItemResult]) -> list[dict[str, float | None]]:
    return [{name: score.value for name, score in result.scores.items()} for result in results]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def post_json(client: httpx.AsyncClient, body: dict, **kwargs) -> httpx.Response:
    return await client.post("/v1/score", json=body, **kwargs)


@pytest.fixture
def rest(service):
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("name", ["serve_multiplexed_model_id", "x-session-id", "traceparent"])
def test_headers_that_mean_something_to_ray_mean_nothing_here(rest, name: str) -> None:
    reply = rest.get("/livez", headers=[(name.encode(), b"\xff")])  # is not UTF-8, which Ray fails on
    assert (reply.status_code, reply.json()) == (200, {"status": "alive"})


def samples(url: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_rest_json_multipart_grpc_and_this_process_give_bit_equal_scores(service, rest, png_of, engine_cache):
    images = [png_of(seed) for seed in range(4)]
    local = Plumbline({"cache_dir": engine_cache})
    with Client(service.url) as multipart, GrpcClient(service.target) as rpc, local as here:
        for data, text in zip(images, TEXTS, strict=True):
            item = Item(image=Image.data(data), text=text)
            body = {"items": [{"image": {"b64": b64(data)}, "text": text}]}
            as_json = rest.post("/v1/score", json=body).json()["results"][0]["scores"]
            expected = {name: score["value"] for name, score in as_json.items()}
            assert values(multipart.score([item]).results) == [expected]
            assert values(rpc.score([item]).results) == [expected]
            assert values(here.score([item]).results) == [expected]


def test_raw_pixels_and_png_of_the_same_pixels_score_the_same(service, png_of, pixels_of):
    with Client(service.url) as client:
        sent = [Image.data(png_of(1)), Image.raw(pixels_of(1))]
        answers = [client.score([Item(image=image, text=TEXTS[0])]) for image in sent]
    assert values(answers[0].results) == values(answers[1].results)


def test_a_batch_equals_its_items_alone_in_any_order(service, jpeg):
    images = [Image.data(jpeg(seed)) for seed in range(16)]
    items = [Item(image=images[i % 16], text=TEXTS[i % 4]) for i in range(64)]
    with GrpcClient(service.target) as client:
        together = values(client.score(items).results)
        backwards = values(client.score(items[::-1]).results)[::-1]
        alone = [values(client.score([item]).results)[0] for item in items[:16]]
        precisions = {entry.id: entry.precision for entry in client.scorers()}
    for scorer in alone[0]:
        expected = [each[scorer] for each in alone]
        bound = IN_COMPANY_BF16 if "bf16" in precisions[scorer] else IN_COMPANY
        assert [each[scorer] for each in together[:16]] == pytest.approx(expected, abs=bound)
        assert [each[scorer] for each in backwards[:16]] == pytest.approx(expected, abs=bound)
        assert [each[scorer] for each in together[16:32]] == [each[scorer] for each in together[:16]]


def test_broken_images_fail_alone(service, rest, jpeg):
    broken = {3: b"", 17: b"no image", 30: jpeg(1)[:200], 44: b"\x89PNG\r\n\x1a\n", 63: b"<svg/>"}
    items = [
        {"id": f"item {i}", "image": {"b64": b64(broken.get(i, jpeg(i % 4)))}, "text": TEXTS[i % 4]} for i in range(64)
    ]
    answer = rest.post("/v1/score", json={"items": items, **PATIENT})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["id"] for result in results] == [f"item {i}" for i in range(64)]
    assert {i for i, result in enumerate(results) if result["status"] == "error"} == set(broken)
    assert {results[i]["error"]["code"] for i in broken} == {"image_undecodable"}


async def test_concurrent_single_item_requests_share_batches(service, jpeg):
    images = [jpeg(1000 + i) for i in range(512)]  # new ones: rows of known images are kept, and need no batch
    bodies = [
        {"items": [{"image": {"b64": b64(data)}, "text": f"{TEXTS[i % 4]} {i}"}], **PATIENT}
        for i, data in enumerate(images)
    ]
    count, total = "plumbline_batch_size_count", "plumbline_batch_size_sum"
    before = [samples(service.url, name) for name in (count, total)]
    waiting = iter(bodies)
    async with httpx.AsyncClient(base_url=service.url, timeout=300) as client:

        async def caller() -> None:
            for body in waiting:
                answer = await post_json(client, body)
                assert answer.status_code == 200

        await asyncio.gather(*(caller() for _ in range(64)))
    after = [samples(service.url, name) for name in (count, total)]
    key = next(labels for labels in after[0] if "/image" in dict(labels)["model"] and "clip" in dict(labels)["model"])
    batches, inputs = (late[key] - early.get(key, 0.0) for early, late in zip(before, after, strict=True))
    assert inputs == 512
    assert inputs / batches > 2  # more where the machine does nothing else


def test_every_route_answers(rest):
    for path in ("/livez", "/readyz", "/v1/scorers", "/v1/models", "/metrics", "/openapi.json", "/docs", "/"):
        answer = rest.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["x-request-id"]


def test_the_caller_s_request_id_comes_back(rest):
    answer = rest.get("/v1/scorers", headers={"x-request-id": "caller-7"})
    assert answer.headers["x-request-id"] == "caller-7"


@pytest.mark.parametrize("sent", [b"x" * 129, b"\xe9", "é".encode(), b""], ids=["long", "latin-1", "utf-8", "empty"])
def test_an_unusable_request_id_is_replaced_in_header_and_body_alike(rest, sent):
    answer = rest.post("/v1/score", json={"items": [{"text": "a"}]}, headers={b"x-request-id": sent})
    assert answer.status_code == 200
    assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
    assert answer.headers["x-request-id"].encode() != sent


BAD_BODIES = [
    pytest.param(b"", 400, id="empty"),
    pytest.param(b"{", 400, id="not json"),
    pytest.param(b'{"items": "\xff"}', 400, id="not utf-8"),
    pytest.param(b"[]", 422, id="not an object"),
    pytest.param(b"{}", 422, id="no items field"),
    pytest.param(b'{"items": []}', 422, id="no items"),
    pytest.param(b'{"items": [{"text": 5}]}', 422, id="wrong type"),
    pytest.param(b'{"items": [{"text": "a"}], "extra": 1}', 422, id="unknown field"),
    pytest.param(b'{"items": [{"text": "a"}], "scorers": ["vibes"]}', 422, id="unknown scorer"),
    pytest.param(json.dumps({"items": [{"text": "a"}] * 257}).encode(), 413, id="too many items"),
]


@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_a_wrong_request_gets_a_problem_and_harms_nothing(rest, body, status):
    answer = rest.post("/v1/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert {"type", "title", "detail", "code"} <= set(problem)
    assert rest.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("item", "code"),
    [
        pytest.param({"image": {"b64": "AAAA"}, "text": "a"}, "image_undecodable", id="not an image"),
        pytest.param({"image": {"url": "http://127.0.0.1/x.png"}, "text": "a"}, "url_source_refused", id="url"),
        pytest.param({"image": "nowhere", "text": "a"}, "unknown_image", id="unknown image"),
        pytest.param({"text": "a"}, "missing_image", id="no image"),
    ],
)
def test_a_wrong_item_carries_its_own_problem(rest, item, code):
    answer = rest.post("/v1/score", json={"items": [item], "scorers": ["clipscore"]})
    assert answer.status_code == 200
    assert answer.json()["results"][0]["error"]["code"] == code


def test_formats_that_are_decoded_beside_score_as_their_png_and_a_killed_decoder_is_replaced(service, pixels_of, below):
    def score_all() -> list[dict[str, float | None]]:
        with Client(service.url) as client:
            return [values(client.score([Item(image=Image.data(data))]).results)[0] for data in files]

    files = [encoded(PillowImage.fromarray(pixels_of(1)), kind) for kind in ("PNG", "BMP", "TIFF")]
    first = score_all()
    assert first == first[:1] * 3
    decoders = [pid for pid, command in below(service.process.pid).items() if "decoder_process" in command]
    assert decoders
    for pid in decoders:
        os.kill(pid, signal.SIGKILL)
    files = [encoded(PillowImage.fromarray(pixels_of(2)), kind) for kind in ("PNG", "BMP", "TIFF")]
    second = score_all()
    assert second == second[:1] * 3


def test_a_text_of_a_hundred_thousand_characters_is_an_item_error(rest, png_of):
    item = {"image": {"b64": b64(png_of(1))}, "text": "x" * 100_000}
    answer = rest.post("/v1/score", json={"items": [item], "scorers": ["clipscore"]})
    assert answer.json()["results"][0]["error"]["code"] == "text_too_long"


def test_an_unknown_route_and_a_wrong_method_are_problems(rest):
    assert rest.get("/v1/nothing").json()["code"] == "not_found"
    assert rest.get("/v1/score").json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz", "/%2D/routes", "/%2d/healthz"])
def test_rays_own_routes_are_unknown(rest, path):
    reply = rest.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
    assert reply.headers["x-request-id"]


def test_rays_own_methods_are_unknown_and_its_names_of_applications_ignored(service):
    with grpc.insecure_channel(service.target) as channel:
        for method in ("ListApplications", "Healthz"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/ray.serve.RayServeAPIService/{method}")(b"", timeout=60)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        scorers = scoring_pb2_grpc.ScoringStub(channel).ListScorers(
            wire.ListScorersRequest(), metadata=(("application", "another"),), timeout=60
        )
    assert scorers.scorers


def test_rank_filter_and_embed_answer_over_both_protocols(service, png_of):
    images = [Image.data(png_of(seed)) for seed in range(3)]
    with Client(service.url) as rest, GrpcClient(service.target) as rpc:
        ranked = [client.rank(TEXTS[0], images).ranking for client in (rest, rpc)]
        assert [(place.index, place.value) for place in ranked[0]] == [(p.index, p.value) for p in ranked[1]]
        assert [place.value for place in ranked[0]] == sorted((p.value for p in ranked[0]), reverse=True)
        embedded = [client.embed(TEXTS[:2]) for client in (rest, rpc)]
        assert sum(x * x for x in embedded[0].vectors[0].floats()) == pytest.approx(1.0, abs=1e-5)
        assert list(embedded[0].vectors[0].floats()) == list(embedded[1].vectors[0].floats())


def test_grpc_health_and_reflection_answer(service):
    with grpc.insecure_channel(service.target) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"plumbline.v1.Scoring", "grpc.health.v1.Health"} <= set(services)


def test_a_wrong_grpc_request_has_a_canonical_code_and_details(service):
    with grpc.insecure_channel(service.target) as channel:
        stub = scoring_pb2_grpc.ScoringStub(channel)
        with pytest.raises(grpc.RpcError) as refusal:
            stub.Score(wire.ScoreRequest(), timeout=30)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert any(key == "grpc-status-details-bin" for key, _ in refusal.value.trailing_metadata())


def test_grpc_health_can_be_watched(service):
    with grpc.insecure_channel(service.target) as channel:
        changes = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(changes).status == health_pb2.HealthCheckResponse.SERVING
        changes.cancel()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, id="no message"),
        pytest.param(bytes(Limits().max_form_bytes + 1), grpc.StatusCode.RESOURCE_EXHAUSTED, id="too large"),
    ],
)
def test_bytes_that_are_no_request_are_refused(service, sent, code):
    unlimited = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(service.target, options=unlimited) as channel:
        with pytest.raises(grpc.RpcError) as refusal:
            channel.unary_unary("/plumbline.v1.Scoring/Score")(sent, timeout=60)
        assert refusal.value.code() is code
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)


def test_a_grpc_deadline_is_honoured(service, png_of):
    items = [wire.Item(image=wire.ImageSource(data=png_of(seed)), text=TEXTS[0]) for seed in range(64)]
    with grpc.insecure_channel(service.target) as channel, pytest.raises(grpc.RpcError) as refusal:
        scoring_pb2_grpc.ScoringStub(channel).Score(wire.ScoreRequest(items=items), timeout=0.001)
    assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_log_knows_a_refused_request_by_its_id(service, rest):
    rest.post("/v1/score", json={"items": []}, headers={"x-request-id": "refused-rest"})
    with grpc.insecure_channel(service.target) as channel, pytest.raises(grpc.RpcError):
        scoring_pb2_grpc.ScoringStub(channel).Score(
            wire.ScoreRequest(), metadata=[("x-request-id", "refused-grpc")], timeout=30
        )
    assert logged(service, "refused-rest") | {"route": "/v1/score", "code": "422", "refused": "no_items"} == (
        logged(service, "refused-rest")
    )
    assert logged(service, "refused-grpc")["refused"] == "no_items"


def test_the_log_has_a_line_for_each_request_and_nothing_that_callers_sent(service, rest, png_of):
    item = {"id": "s3cret", "image": {"b64": b64(png_of(3))}, "text": "a s3cret place"}
    body = {"items": [item, {"image": {"url": "https://example.org/s3cret?token=s3cret"}, "text": "s3cret"}]}
    answer = rest.post("/v1/score", json=body, headers={"x-request-id": "answered", "authorization": "Bearer s3cret"})
    line = logged(service, "answered")
    assert (line["level"], line["process"], line["route"], line["code"]) == ("info", "gateway", "/v1/score", "200")
    assert line["items"] == 2
    assert line["ms"] >= answer.json()["timing_ms"]["total"]
    lines = service.log.read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(each), dict) for each in lines)
    assert not [each for each in lines if "s3cret" in each]


def logged(service, request_id: str) -> dict:
    """What replicas write reaches the command a moment later."""
    for _ in range(300):
        for line in service.log.read_text(encoding="utf-8").splitlines():
            if request_id in line:
                return json.loads(line)
        time.sleep(0.1)
    pytest.fail(f"not in the log: {request_id}\n{service.log.read_text()[-3000:]}")


def test_the_score_command_asks_a_server(service, png_of, tmp_path):
    (tmp_path / "one.png").write_bytes(png_of(1))
    files = [str(tmp_path / name) for name in ("one.png", "missing.png", "one.png")]
    arguments = ["score", *files, "--text", TEXTS[0], "--server", service.url, "--json"]
    ran = CliRunner().invoke(cli, arguments)
    assert ran.exit_code == 1
    results = json.loads(ran.stdout)["results"]
    assert [(result["id"], result["status"]) for result in results] == [
        *((files[0], "ok"), (files[1], "error"), (files[2], "ok"))
    ]
    assert results[0]["scores"] == results[2]["scores"]
    assert results[1]["error"]["code"] == "image_undecodable"


def test_a_stream_answers_every_batch(service, png_of):
    items = [wire.Item(image=wire.ImageSource(data=png_of(seed)), text=TEXTS[0]) for seed in range(3)]
    requests = [
        wire.ScoreStreamRequest(correlation_id=str(i), request=wire.ScoreRequest(items=[item]))
        for i, item in enumerate(items)
    ]
    with grpc.insecure_channel(service.target) as channel:
        replies = list(scoring_pb2_grpc.ScoringStub(channel).ScoreStream(iter(requests), timeout=60))
    assert {MessageToDict(reply)["correlationId"] for reply in replies} == {"0", "1", "2"}


def test_sets_are_measured_kept_and_forgotten_alike_over_rest_and_grpc(service, png_of):
    images, beside = [Image.data(png_of(seed)) for seed in (1, 2, 1)], {"timing_ms", "request_id"}
    with Client(service.url) as rest, GrpcClient(service.target) as rpc:
        found = [each.diversity(images, texts=TEXTS[:3]).model_dump(exclude=beside) for each in (rest, rpc)]
        assert found[0] == found[1]
        assert (found[0]["n"], found[0]["identical"]) == (3, ((0, 2),))
        assert rpc.refer_set("launch", images).n == 3
        assert [each.name for each in rest.reference_sets()] == ["launch"]
        apart = [each.distance(images[:2], reference="launch").model_dump(exclude=beside) for each in (rest, rpc)]
        assert apart[0] == apart[1]
        assert (apart[0]["n_a"], apart[0]["n_b"]) == (2, 3)
        rpc.delete_reference_set("launch")
        for client in (rest, rpc):
            with pytest.raises(ProblemError) as gone:
                client.distance(images, reference="launch")
            assert gone.value.code == "unknown_artefact"
            with pytest.raises(ForbiddenError, match="audits"):
                client.audit(["a", "b"], labels=["a", None])


def test_a_deadline_that_cannot_be_met_is_said(service, rest, png_of):
    body = {"items": [{"image": {"b64": b64(png_of(1))}, "text": "a"}], "timeout_ms": 0.001}
    assert rest.post("/v1/score", json=body).status_code == 504


def test_metrics_count_requests_items_and_errors(service, rest, png_of):
    rest.post("/v1/score", json={"items": [{"image": {"b64": b64(png_of(1))}, "text": "a"}, {"text": "b"}]})
    requests = samples(service.url, "plumbline_requests_total")
    assert requests[(("code", "200"), ("protocol", "rest"), ("route", "/v1/score"))] >= 1
    assert any(dict(labels)["outcome"] == "ok" for labels in samples(service.url, "plumbline_items_total"))
    assert samples(service.url, "plumbline_item_errors_total")[(("reason", "missing_image"),)] >= 1
    assert samples(service.url, "plumbline_build_info")
