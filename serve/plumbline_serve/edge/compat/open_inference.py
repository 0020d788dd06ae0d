"""The Open Inference Protocol v2 over REST, with the binary tensor extension; `inference` has what its models are."""

import asyncio
import math
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from plumbline_models.core.errors import (
    MalformedRequestError,
    NotReadyError,
    PlumblineError,
    UnsupportedMediaTypeError,
)
from plumbline_serve.edge.compat.core import Asking, Body, Core, field_fault, json_reply
from plumbline_serve.edge.compat.inference import (
    DATATYPES,
    EXTENSIONS,
    IMAGE,
    OUTPUTS,
    PLATFORM,
    SCORE,
    VERSION,
    Element,
    Inference,
    Outcome,
    Tensor,
    check_parameters,
    inputs_of,
    model_of,
    outcome_of,
    score_request,
    unpack,
)
from plumbline_serve.edge.compat.rewards import RETRY_AFTER_S
from plumbline_serve.edge.faults import read_as
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.edge.rest.body import read_bytes
from plumbline_serve.edge.rest.json_document import read_json
from plumbline_serve.memory.bytes_in_flight import Share
from plumbline_serve.settings import Limits

JSON_LENGTH = "inference-header-content-length"
"""Bytes of JSON that the body begins with; tensors follow."""
BINARY = "application/octet-stream"
_MODEL = "/v2/models/{name}"
_VERSIONED = f"{_MODEL}/versions/{{version}}"
_UNPROCESSABLE, _BAD_REQUEST = 422, 400
_WINDOW_BITS: Mapping[str, int] = {"gzip": 31, "deflate": 15}
_PACKED_BYTES, _PIECE_BYTES = 2**16, 2**20
"""Unpacked in one go: of what is compressed, and of what it becomes."""
_MAX_LENGTH_DIGITS = 12


class _Input(Body):
    name: str
    datatype: str
    shape: Sequence[int]
    parameters: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    data: Any = None


class _Output(Body):
    name: str
    parameters: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it


class _Infer(Body):
    id: str = ""
    parameters: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    inputs: Sequence[_Input]
    outputs: Sequence[_Output] | None = None


class _Routes:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def live(self, request: Request) -> Response:
        del request
        return json_reply({"live": True})

    async def ready(self, request: Request) -> Response:
        del request
        if not self._core.service.is_ready:
            raise NotReadyError("The service takes no work now.", retry_after_s=RETRY_AFTER_S)
        return json_reply({"ready": True})

    async def server(self, request: Request) -> Response:
        del request
        return json_reply({"name": PLATFORM, "version": version("plumbline-serve"), "extensions": list(EXTENSIONS)})

    async def model_ready(self, request: Request) -> Response:
        model = await model_of(self._core.service, *_named(request))
        await self.ready(request)
        return json_reply({"name": model.id, "ready": True})

    async def model(self, request: Request) -> Response:
        model = await model_of(self._core.service, *_named(request))
        tensors = {
            key: [{"name": name, "datatype": DATATYPES[name], "shape": [-1, 1]} for name in names]
            for key, names in (("inputs", inputs_of(model)), ("outputs", OUTPUTS))
        }
        return json_reply({"name": model.id, "versions": [VERSION], "platform": PLATFORM, **tensors})

    async def config(self, request: Request) -> Response:
        model = await model_of(self._core.service, *_named(request))
        kinds = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
        tensors = {
            key: [{"name": name, "data_type": kinds[DATATYPES[name]], "dims": [1]} for name in names]
            for key, names in (("input", inputs_of(model)), ("output", OUTPUTS))
        }
        most = self._core.limits.max_items
        return json_reply({"name": model.id, "platform": PLATFORM, "max_batch_size": most, **tensors})

    async def infer(self, request: Request) -> Response:
        async with self._core.asked(request, read=_read) as asking:
            model = await model_of(self._core.service, *_named(request))
            header = request.headers.get(JSON_LENGTH)
            if header == "0":
                inference, binary = _raw(asking, model.id), frozenset(OUTPUTS)
            else:
                inference, binary = await _inference(asking, model.id, header)
            asking.let_go()
            reply = await asking.score(score_request(inference, model))
            return _reply(outcome_of(inference, reply), binary)


def routes(core: Core) -> list[AddedRoute]:
    """The routes of the protocol, and `config` as Triton has it."""
    all_of = _Routes(core)
    models = [
        AddedRoute(method, f"{base}{end}", handler, refuse)
        for base in (_MODEL, _VERSIONED)
        for method, end, handler in (
            ("GET", "/ready", all_of.model_ready),
            ("GET", "/config", all_of.config),
            ("POST", "/infer", all_of.infer),
            ("GET", "", all_of.model),
        )
    ]
    return [
        AddedRoute("GET", "/v2/health/live", all_of.live, refuse, is_open=True),
        AddedRoute("GET", "/v2/health/ready", all_of.ready, refuse, is_open=True),
        AddedRoute("GET", "/v2", all_of.server, refuse),
        *models,
    ]


def refuse(error: PlumblineError, request_id: str) -> Response:
    """An error as the protocol's clients read it: a problem with its sentence as `error`, and 400 for wrong arguments.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    status = _BAD_REQUEST if error.status == _UNPROCESSABLE else error.status
    found = problem(error, request_id)
    headers = {name: value for name, value in http_headers(error).items() if name != "content-type"}
    return json_reply({**found, "status": status, "error": found["detail"]}, status, **headers)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params.get("version", "")


async def _read(request: Request, limits: Limits, share: Share) -> bytearray:
    """The body, unpacked where it is compressed; what it unpacks to counts as what it has."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    body = await read_bytes(request, limits, share)
    if coding == "identity":
        return body
    if coding not in _WINDOW_BITS:
        raise UnsupportedMediaTypeError("The body may be compressed by gzip or deflate, and by nothing else.")
    unpacker, whole = zlib.decompressobj(_WINDOW_BITS[coding]), bytearray()
    try:
        for start in range(0, len(body), _PACKED_BYTES):
            packed = bytes(body[start : start + _PACKED_BYTES])
            while packed:
                piece = unpacker.decompress(packed, _PIECE_BYTES)
                share.take(len(piece))
                whole += piece
                packed = unpacker.unconsumed_tail
                await asyncio.sleep(0)
    except zlib.error as error:
        raise MalformedRequestError(f"The body is not {coding}.") from error
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedRequestError(f"The body is not one whole piece of {coding}.")
    return whole


def _raw(asking: Asking, model: str) -> Inference:
    """A request whose body is its one image."""
    return Inference(model, VERSION, "", [Tensor(IMAGE, "BYTES", [1], [bytes(asking.body)])])


async def _inference(asking: Asking, model: str, header: str | None) -> tuple[Inference, frozenset[str]]:
    """The request, and the outputs that it wants in binary."""
    body, length = asking.body, len(asking.body)
    if header is not None:
        if not header.isdecimal() or len(header) > _MAX_LENGTH_DIGITS or int(header) > length:
            raise MalformedRequestError(
                f"The header {JSON_LENGTH} must be the bytes of JSON that the body begins with."
            )
        length = int(header)
    document = await read_json(body[:length] if length < len(body) else body, asking.core.limits)
    infer = read_as(document if isinstance(document, dict) else {}, _Infer)
    tensors = _tensors(infer.inputs, memoryview(body)[length:], asking.core.limits)
    all_binary = infer.parameters.get("binary_data_output") is True
    outputs = infer.outputs or [_Output(name=name) for name in OUTPUTS]
    binary = frozenset(each.name for each in outputs if each.parameters.get("binary_data", all_binary) is True)
    for index, each in enumerate(outputs):
        check_parameters(each.parameters, f"/outputs/{index}/parameters")
    names = tuple(dict.fromkeys(each.name for each in outputs))
    return Inference(model, VERSION, infer.id, tensors, names, infer.parameters), binary


def _tensors(inputs: Sequence[_Input], content: memoryview, limits: Limits) -> list[Tensor]:
    tensors: list[Tensor] = []
    start = 0
    for index, each in enumerate(inputs):
        pointer = f"/inputs/{index}"
        check_parameters(each.parameters, f"{pointer}/parameters")
        size = each.parameters.get("binary_data_size")
        elements: Sequence[Element]
        if size is None:
            elements = _flat(each.data, f"{pointer}/data", limits)
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(content) - start:
                raise field_fault(f"{pointer}/parameters/binary_data_size", "must be bytes that follow the JSON")
            if each.data is not None:
                raise field_fault(f"{pointer}/data", "must not be given beside binary_data_size")
            elements = unpack(content[start : start + size], pointer, most=limits.max_items)
            start += size
        tensors.append(Tensor(each.name, each.datatype, each.shape, elements))
    if start != len(content):
        raise MalformedRequestError("The body has bytes behind its JSON that belong to no input.")
    return tensors


def _flat(data: Any, pointer: str, limits: Limits) -> list[str]:
    """The texts of `data`, which may stand one by one or in rows of one."""
    rows = data if isinstance(data, list) else [data]
    flat: list[Any] = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in rows]
    if len(flat) > limits.max_items or not all(isinstance(each, str) for each in flat):
        raise field_fault(pointer, f"must be at most {limits.max_items} strings, flat or in rows of one")
    return flat


def _reply(outcome: Outcome, binary: frozenset[str]) -> Response:
    inference = outcome.inference
    written: list[dict[str, Any]] = []
    contents: list[bytes] = []
    for name in inference.outputs:
        output: dict[str, Any] = {"name": name, "datatype": DATATYPES[name], "shape": [len(outcome.values), 1]}
        if name in binary:
            contents.append(outcome.packed(name))
            output["parameters"] = {"binary_data_size": len(contents[-1])}
        else:
            output["data"] = _data(outcome, name)
        written.append(output)
    document: dict[str, Any] = {"model_name": inference.model, "model_version": VERSION, "outputs": written}
    if inference.id:
        document["id"] = inference.id
    if not binary:
        return json_reply(document)
    head = orjson.dumps(document)
    return Response(b"".join([head, *contents]), headers={"content-type": BINARY, JSON_LENGTH: str(len(head))})


def _data(outcome: Outcome, name: str) -> Sequence[Any]:
    """JSON has no NaN: null stands for it."""
    return [None if math.isnan(each) else each for each in outcome.scores] if name == SCORE else list(outcome.errors)
