"""The Open Inference Protocol v2 over gRPC: the methods of `inference.GRPCInferenceService`, over `inference`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from plumbline_models.core.errors import MethodNotAllowedError
from plumbline_serve.edge.access import Access, num_items_of
from plumbline_serve.edge.caller_timeout import with_remaining_time
from plumbline_serve.edge.compat.core import field_fault
from plumbline_serve.edge.compat.inference import (
    DATATYPES,
    EXTENSIONS,
    OUTPUTS,
    PLATFORM,
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
from plumbline_serve.edge.grpc.calls import CallContext, CallInterceptor, GrpcCall
from plumbline_serve.edge.grpc.receiving import receive
from plumbline_serve.edge.grpc.unreadable import Lenient, check_readable
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.edge.problems import report_items
from plumbline_serve.edge.rules import check_counts
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Settings
from plumbline_wire.v1 import open_inference_pb2 as pb

SERVICE: Final = "inference.GRPCInferenceService"
METHODS: Final[Mapping[str, tuple[Any, Any]]] = {
    "ServerLive": (pb.ServerLiveRequest, pb.ServerLiveResponse),
    "ServerReady": (pb.ServerReadyRequest, pb.ServerReadyResponse),
    "ModelReady": (pb.ModelReadyRequest, pb.ModelReadyResponse),
    "ServerMetadata": (pb.ServerMetadataRequest, pb.ServerMetadataResponse),
    "ModelMetadata": (pb.ModelMetadataRequest, pb.ModelMetadataResponse),
    "ModelConfig": (pb.ModelConfigRequest, pb.ModelConfigResponse),
    "ModelInfer": (pb.ModelInferRequest, pb.ModelInferResponse),
}
"""The message and the reply of each."""
_CONFIG_TYPES: Final = {
    name: pb.TYPE_FP32 if datatype == "FP32" else pb.TYPE_STRING for name, datatype in DATATYPES.items()
}
_OPEN = frozenset({"ServerLive", "ServerReady"})
R = TypeVar("R", bound=Message)


def add_inference(servicer: Any, server: Any) -> None:
    """Register the service; Ray Serve finds this by its name.

    Args:
        servicer: Its methods are named as the service's.
        server: Of grpc.aio, or one of Ray Serve.
    """
    handlers = {name: _handler(getattr(servicer, name), asked) for name, (asked, _) in METHODS.items()}
    Lenient(server).add_registered_method_handlers(SERVICE, handlers)


def _handler(method: Any, asked: Any) -> grpc.RpcMethodHandler:
    def write(reply: Any) -> bytes:
        written: bytes = reply.SerializeToString()
        return written

    return grpc.unary_unary_rpc_method_handler(method, request_deserializer=asked.FromString, response_serializer=write)


class InferenceEdge:
    """Each method takes a message, or a stream with it, and its call's context; errors are set on the context.

    Args:
        service: What replies.
        settings: The limits, and whether the protocol is spoken.
        observer: What hears of calls.
        bytes_in_flight: The budget that is shared with the other edges.
        access: What lets callers in, shared likewise.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        observer: EdgeObserver,
        *,
        bytes_in_flight: BytesInFlight,
        access: Access,
    ) -> None:
        self._service = service
        self._limits = settings.limits
        self._is_on = "open_inference" in settings.edge.compat
        self._bytes = bytes_in_flight
        self._interceptor = CallInterceptor(access, observer)

    async def call(self, name: str, request: Any, context: CallContext) -> Message:
        """Answer a call.

        Args:
            name: Of the method.
            request: The message, or a stream with it.
            context: The call's.
        """
        answers: Mapping[str, Callable[[Any, GrpcCall], Awaitable[Message]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelInfer": self._model_infer,
        }

        async def answer(call: GrpcCall) -> Message:
            if not self._is_on:
                raise MethodNotAllowedError("The Open Inference Protocol is not spoken here.")
            with self._bytes.share() as share:
                received = await receive(request, share, context, max_upload_s=self._limits.max_upload_s)
                check_readable(received)
                share.settle(received.ByteSize())
                return await answers[name](received, call)

        failed = METHODS[name][1]()
        return await self._interceptor.run(
            f"{SERVICE}/{name}", context, answer, failed=failed, is_open=name in _OPEN and self._is_on
        )

    async def _server_live(self, request: pb.ServerLiveRequest, call: GrpcCall) -> pb.ServerLiveResponse:
        del request, call
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request: pb.ServerReadyRequest, call: GrpcCall) -> pb.ServerReadyResponse:
        del request, call
        return pb.ServerReadyResponse(ready=self._service.is_ready)

    async def _model_ready(self, request: pb.ModelReadyRequest, call: GrpcCall) -> pb.ModelReadyResponse:
        del call
        await model_of(self._service, request.name, request.version)
        return pb.ModelReadyResponse(ready=self._service.is_ready)

    async def _server_metadata(self, request: pb.ServerMetadataRequest, call: GrpcCall) -> pb.ServerMetadataResponse:
        del request, call
        return pb.ServerMetadataResponse(name=PLATFORM, version=version("plumbline-serve"), extensions=EXTENSIONS)

    async def _model_metadata(self, request: pb.ModelMetadataRequest, call: GrpcCall) -> pb.ModelMetadataResponse:
        del call
        model = await model_of(self._service, request.name, request.version)
        return pb.ModelMetadataResponse(
            name=model.id,
            versions=[VERSION],
            platform=PLATFORM,
            inputs=_described(inputs_of(model)),
            outputs=_described(OUTPUTS),
        )

    async def _model_config(self, request: pb.ModelConfigRequest, call: GrpcCall) -> pb.ModelConfigResponse:
        del call
        model = await model_of(self._service, request.name, request.version)
        config = pb.ModelConfig(
            name=model.id,
            platform=PLATFORM,
            max_batch_size=self._limits.max_items,
            input=[pb.ModelInput(name=name, data_type=_CONFIG_TYPES[name], dims=[1]) for name in inputs_of(model)],
            output=[pb.ModelOutput(name=name, data_type=_CONFIG_TYPES[name], dims=[1]) for name in OUTPUTS],
        )
        return pb.ModelConfigResponse(config=config)

    async def _model_infer(self, request: pb.ModelInferRequest, call: GrpcCall) -> pb.ModelInferResponse:
        check_counts(self._limits, *(each.contents.bytes_contents for each in request.inputs))
        model = await model_of(self._service, request.model_name, request.model_version)
        inference = _inference(request, model.id, most=self._limits.max_items)
        message = with_remaining_time(score_request(inference, model), call.timeout)
        call.num_items = num_items_of(message)
        await call.grant.spend_on(message)
        reply = await self._service.score(message, call.grant.caller)
        report_items(reply, call.request_id)
        return _written(outcome_of(inference, reply))


def _described(names: Sequence[str]) -> list[pb.TensorMetadata]:
    return [pb.TensorMetadata(name=name, datatype=DATATYPES[name], shape=[-1, 1]) for name in names]


def _inference(request: pb.ModelInferRequest, model: str, *, most: int) -> Inference:
    for index, tensor in enumerate(request.inputs):
        check_parameters(tensor.parameters, f"/inputs/{index}/parameters")
    for index, output in enumerate(request.outputs):
        check_parameters(output.parameters, f"/outputs/{index}/parameters")
    outputs = tuple(dict.fromkeys(each.name for each in request.outputs)) or OUTPUTS
    parameters = {
        name: getattr(each, each.WhichOneof("parameter_choice") or "int64_param")
        for name, each in request.parameters.items()
    }
    return Inference(model, request.model_version, request.id, _tensors(request, most), outputs, parameters)


def _tensors(request: pb.ModelInferRequest, most: int) -> list[Tensor]:
    raw = request.raw_input_contents
    if not raw:
        columns: list[Sequence[Element]] = [list(each.contents.bytes_contents) for each in request.inputs]
    elif len(raw) != len(request.inputs) or any(each.HasField("contents") for each in request.inputs):
        raise field_fault("/raw_input_contents", "must be one for each input, and no input has contents beside them")
    else:
        columns = [unpack(each, f"/raw_input_contents/{index}", most=most) for index, each in enumerate(raw)]
    return [
        Tensor(each.name, each.datatype, tuple(each.shape), column)
        for each, column in zip(request.inputs, columns, strict=True)
    ]


def _written(outcome: Outcome) -> pb.ModelInferResponse:
    inference = outcome.inference
    shape = [len(outcome.values), 1]
    return pb.ModelInferResponse(
        model_name=inference.model,
        model_version=VERSION,
        id=inference.id,
        outputs=[pb.Tensor(name=name, datatype=DATATYPES[name], shape=shape) for name in inference.outputs],
        raw_output_contents=[outcome.packed(name) for name in inference.outputs],
    )
