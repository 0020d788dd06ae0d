"""The Open Inference Protocol: Triton's own client over HTTP and gRPC, and bodies that no client would send."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from plumbline_wire.v1 import open_inference_pb2 as pb

TEXTS = ["a red circle", "two blue squares"]
HEADER = "Inference-Header-Content-Length"


@pytest.fixture
def over_http(edge: Any) -> Iterator[Any]:
    client = tritonclient.http.InferenceServerClient(edge.url.removeprefix("http://"))
    yield client
    client.close()


@pytest.fixture
def over_grpc(edge: Any) -> Iterator[Any]:
    client = tritonclient.grpc.InferenceServerClient(edge.target)
    yield client
    client.close()


@pytest.fixture(params=[tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(module: Any, over_http: Any, over_grpc: Any) -> Any:
    return over_http if module is tritonclient.http else over_grpc


def tensors(module: Any, images: list[bytes], texts: list[str] | None = None, *, rows: bool = True) -> list[Any]:
    given = {"IMAGE": images} | ({} if texts is None else {"TEXT": [each.encode() for each in texts]})
    found = []
    for name, column in given.items():
        array = np.array(column, dtype=np.object_)
        array = array.reshape(-1, 1) if rows else array
        found.append(module.InferInput(name, list(array.shape), "BYTES"))
        found[-1].set_data_from_numpy(array)
    return found


def test_the_client_asks_what_is_there(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("clipscore")
    server = client.get_server_metadata()
    assert (server["extensions"] if isinstance(server, dict) else list(server.extensions)) == ["binary_tensor_data"]
    model = client.get_model_metadata("clipscore")
    inputs = model["inputs"] if isinstance(model, dict) else model.inputs
    names = [each["name"] if isinstance(each, dict) else each.name for each in inputs]
    assert names == ["IMAGE", "TEXT"]


def test_the_client_gets_the_configuration_that_it_splits_batches_by(over_http: Any, over_grpc: Any) -> None:
    config = over_grpc.get_model_config("clipscore").config
    assert (config.name, config.platform, config.max_batch_size) == ("clipscore", "plumbline", 8)
    strings, floats = model_config_pb2.TYPE_STRING, model_config_pb2.TYPE_FP32
    described = [(each.name, each.data_type, list(each.dims)) for each in (*config.input, *config.output)]
    assert described == [
        ("IMAGE", strings, [1]), ("TEXT", strings, [1]), ("SCORE", floats, [1]), ("ERROR", strings, [1]),
    ]  # fmt: skip
    same = over_http.get_model_config("clipscore")
    assert (same["name"], same["platform"], same["max_batch_size"]) == (config.name, config.platform, 8)
    assert [each["name"] for each in (*same["input"], *same["output"])] == [name for name, _, _ in described]
    with pytest.raises(InferenceServerException, match="There is no model"):
        over_grpc.get_model_config("no-such")


@pytest.mark.parametrize("rows", [True, False], ids=["[N, 1]", "[N]"])
def test_the_client_gets_our_scores(
    client: Any, module: Any, image: Callable[..., bytes], scored: Callable[..., list[float]], rows: bool
) -> None:
    images = [image(1), image(2, "JPEG")]
    reply = client.infer("clipscore", tensors(module, images, TEXTS, rows=rows), request_id="7")
    expected = np.asarray(scored("clipscore", images, TEXTS), np.float32).reshape(2, 1)
    assert np.array_equal(reply.as_numpy("SCORE"), expected)
    assert reply.as_numpy("ERROR").tolist() == [[b""], [b""]]
    response = reply.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "7"


def test_one_bad_image_is_nan_with_its_sentence_and_its_neighbours_are_scored(
    client: Any, module: Any, image: Callable[..., bytes], scored: Callable[..., list[float]]
) -> None:
    reply = client.infer("qualiclip", tensors(module, [image(1), b"no image", image(2)]))
    scores = reply.as_numpy("SCORE")[:, 0]
    assert scores[[0, 2]].tolist() == np.asarray(scored("qualiclip", [image(1), image(2)]), np.float32).tolist()
    assert np.isnan(scores[1])
    [before, wrong, behind] = reply.as_numpy("ERROR")[:, 0]
    assert wrong.startswith(b"image_undecodable: ")
    assert (before, behind) == (b"", b"")


def test_one_output_alone_may_be_asked_for(client: Any, module: Any, image: Callable[..., bytes]) -> None:
    wanted = [module.InferRequestedOutput("SCORE")]
    reply = client.infer("qualiclip", tensors(module, [image(1)]), outputs=wanted)
    assert reply.as_numpy("SCORE").shape == (1, 1)
    assert reply.as_numpy("ERROR") is None


@pytest.mark.parametrize(
    ("model", "texts", "sentence"),
    [
        pytest.param("no-such", TEXTS, "There is no model", id="model"),
        pytest.param("clipscore", None, "must be IMAGE and TEXT", id="an input is missing"),
        pytest.param("clipscore", TEXTS[:1], "as many images as texts", id="fewer texts"),
        pytest.param("qualiclip", TEXTS, "must be IMAGE", id="an input too many"),
    ],
)
def test_what_is_wrong_is_the_clients_exception(
    client: Any, module: Any, image: Callable[..., bytes], *, model: str, texts: list[str] | None, sentence: str
) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        client.infer(model, tensors(module, [image(1), image(2)], texts))


def test_too_many_elements_are_refused(client: Any, module: Any) -> None:
    with pytest.raises(InferenceServerException, match="allowed"):
        client.infer("qualiclip", tensors(module, [b"x"] * 9))


def test_overload_and_keys_are_said_with_a_status(
    rules: Any, guarded: Any, module: Any, image: Callable[..., bytes]
) -> None:
    for edge, sentence in ((guarded, "API key"), (rules, None)):
        address = edge.target if module is tritonclient.grpc else edge.url.removeprefix("http://")
        client = module.InferenceServerClient(address)
        try:
            assert client.is_server_live()
            if sentence is None:
                assert client.infer("sum", tensors(module, [b"abc"])).as_numpy("SCORE")[0, 0] == np.float32(294 / 3)
            else:
                with pytest.raises(InferenceServerException, match=sentence):
                    client.infer("sum", tensors(module, [b"abc"]))
        finally:
            client.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_body_counts_as_what_it_unpacks_to(
    over_http: Any, edge: Any, image: Callable[..., bytes], coding: str
) -> None:
    plain = over_http.infer("qualiclip", tensors(tritonclient.http, [image(1)]))
    packed = over_http.infer("qualiclip", tensors(tritonclient.http, [image(1)]), request_compression_algorithm=coding)
    assert packed.as_numpy("SCORE") == plain.as_numpy("SCORE")
    bomb = gzip.compress(bytes(2**22)) if coding == "gzip" else zlib.compress(bytes(2**22))
    reply = edge.http.post("/v2/models/qualiclip/infer", content=bomb, headers={"content-encoding": coding})
    assert (reply.status_code, reply.json()["code"]) == (413, "request_too_large")


def test_a_raw_body_is_one_image(edge: Any, image: Callable[..., bytes], scored: Callable[..., list[float]]) -> None:
    reply = edge.http.post("/v2/models/qualiclip/infer", content=image(1), headers={HEADER: "0"})
    head = int(reply.headers[HEADER])
    outputs = json.loads(reply.content[:head])["outputs"]
    assert [each["name"] for each in outputs] == ["SCORE", "ERROR"]
    assert np.frombuffer(reply.content[head : head + 4], "<f4")[0] == np.float32(scored("qualiclip", [image(1)])[0])


def test_json_alone_takes_base64_and_says_null_for_what_failed(edge: Any, b64: Callable[..., str]) -> None:
    body = {"inputs": [{"name": "IMAGE", "datatype": "BYTES", "shape": [2, 1], "data": [[b64(1)], ["AAAA"]]}]}
    outputs = {each["name"]: each["data"] for each in edge.post("/v2/models/qualiclip/infer", body).json()["outputs"]}
    assert outputs["SCORE"][0] is not None
    assert outputs["SCORE"][1] is None
    assert outputs["ERROR"][1].startswith("image_undecodable")


def one(size: int, **changes: Any) -> bytes:
    tensor = {"name": "IMAGE", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [tensor | changes]}).encode()


@pytest.mark.parametrize(
    ("head", "tail", "header"),
    [
        pytest.param(one(7), b"\3\0\0\0abc", "x", id="no number"),
        pytest.param(one(7), b"\3\0\0\0abc", "9999", id="beyond the body"),
        pytest.param(one(8), b"\3\0\0\0abc", None, id="bytes missing"),
        pytest.param(one(7), b"\3\0\0\0abcd", None, id="bytes left over"),
        pytest.param(one(7), b"\xff\xff\xff\xffabc", None, id="an element that claims 4 GiB"),
        pytest.param(one(7, data=["a"]), b"\3\0\0\0abc", None, id="both forms"),
        pytest.param(one(7, shape=[3, 1]), b"\3\0\0\0abc", None, id="shape"),
        pytest.param(one(7, datatype="UINT8"), b"\3\0\0\0abc", None, id="datatype"),
        pytest.param(
            one(7, parameters={"shared_memory_region": "a", "binary_data_size": 7}), b"\3\0\0\0abc", None, id="memory"
        ),
    ],
)
def test_a_body_that_does_not_fit_its_header_is_refused(
    edge: Any, head: bytes, tail: bytes, header: str | None
) -> None:
    headers = {HEADER: str(len(head)) if header is None else header}
    reply = edge.http.post("/v2/models/qualiclip/infer", content=head + tail, headers=headers)
    assert reply.status_code == 400
    assert isinstance(reply.json()["error"], str)


def test_metadata_over_rest_has_what_other_clients_read(edge: Any) -> None:
    model = edge.http.get("/v2/models/qualiclip/versions/1").json()
    assert model["inputs"] == [{"name": "IMAGE", "datatype": "BYTES", "shape": [-1, 1]}]
    config = edge.http.get("/v2/models/qualiclip/config").json()
    assert config["max_batch_size"] == 8
    assert edge.http.get("/v2/models/qualiclip/versions/2").status_code == 404
    assert edge.http.get("/v2/models/qualiclip/ready").json() == {"name": "qualiclip", "ready": True}


def test_grpc_takes_contents_too_but_not_both(edge: Any, image: Callable[..., bytes]) -> None:
    infer = edge.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    contents = pb.InferTensorContents(bytes_contents=[image(1)])
    tensor = pb.Tensor(name="IMAGE", datatype="BYTES", shape=[1], contents=contents)
    request = pb.ModelInferRequest(model_name="qualiclip", inputs=[tensor])
    assert len(infer(request).raw_output_contents[0]) == 4
    request.raw_input_contents.append(b"\1\0\0\0a")
    with pytest.raises(grpc.RpcError) as raised:
        infer(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_where_it_is_off_its_calls_are_not_implemented(open_over: Callable[..., Any]) -> None:
    from plumbline_serve.settings import Settings  # noqa: PLC0415 - beside the one use

    client = tritonclient.grpc.InferenceServerClient(open_over(Settings(), None).target)
    with pytest.raises(InferenceServerException, match="not spoken"):
        client.is_server_live()
    client.close()
