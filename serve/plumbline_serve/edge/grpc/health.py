"""Standard health checking, `grpc.health.v1`: whether the service takes work."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from plumbline_models.core.errors import RouteNotFoundError
from plumbline_serve.edge.grpc.calls import CallContext, CallInterceptor, GrpcCall
from plumbline_serve.requests.service_protocol import Service
from plumbline_wire import SCORING_SERVICE

WATCH_PERIOD_S = 0.5
_HEALTH_SERVICE = "grpc.health.v1.Health"
_MESSAGES: Any = health_pb2  # whose types do not know the newest ones
_KNOWN = frozenset({"", SCORING_SERVICE})


class GrpcHealth:
    """Answers probes; they need no key."""

    def __init__(self, service: Service, interceptor: CallInterceptor) -> None:
        self._service = service
        self._interceptor = interceptor

    async def check(self, request: HealthCheckRequest, context: CallContext) -> HealthCheckResponse:
        """SERVING only if the service is ready; NOT_FOUND for a service that is not here."""

        async def answer(call: GrpcCall) -> HealthCheckResponse:
            del call
            if request.service not in _KNOWN:
                raise RouteNotFoundError("There is no such service here.")
            return self._response()

        failed = HealthCheckResponse()
        return await self._interceptor.run(f"{_HEALTH_SERVICE}/Check", context, answer, failed=failed, is_open=True)

    async def check_all(self, request: Any, context: CallContext) -> Any:
        """The status of each service that `check` knows; versions of grpc_health before 1.81 have no such call."""
        del request
        failed = _MESSAGES.HealthListResponse()

        async def answer(call: GrpcCall) -> Any:
            del call
            return _MESSAGES.HealthListResponse(statuses=dict.fromkeys(_KNOWN, self._response()))

        return await self._interceptor.run(f"{_HEALTH_SERVICE}/List", context, answer, failed=failed, is_open=True)

    async def watch(self, request: HealthCheckRequest, context: CallContext) -> AsyncIterator[HealthCheckResponse]:
        """The status now and at each change; ends once the service stops serving, so that it can be stopped."""

        def answers(call: GrpcCall) -> AsyncGenerator[HealthCheckResponse, None]:
            del call
            return self._changes(is_known=request.service in _KNOWN)

        async for response in self._interceptor.stream(f"{_HEALTH_SERVICE}/Watch", context, answers, is_open=True):
            yield response

    async def _changes(self, *, is_known: bool) -> AsyncGenerator[HealthCheckResponse, None]:
        if not is_known:
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            return
        last = self._response()
        yield last
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            now = self._response()
            if now == last:
                continue
            yield now
            if last.status == HealthCheckResponse.SERVING:
                return
            last = now

    def _response(self) -> HealthCheckResponse:
        serving, waiting = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=serving if self._service.is_ready else waiting)
