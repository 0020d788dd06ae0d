"""The ingress: REST and gRPC over one service, with the encoders in the same process or one hop away."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ray import serve as ray_serve
from ray.serve._private import replica as ray_replica
from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError
from plumbline_models.core.protocols import Scorer
from plumbline_serve.assembly import assemble, local_compute
from plumbline_serve.batching import Compute, LocalCompute
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.deployments.collecting import collect_seldom
from plumbline_serve.deployments.fixed_inputs import Sample, Verdict
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.group_follower import GroupFollower
from plumbline_serve.deployments.group_replicas import LOOK_TIMEOUT_S
from plumbline_serve.deployments.grouped_compute import Descriptions
from plumbline_serve.deployments.handover import Handover, running_before
from plumbline_serve.deployments.logs import log_as_ray_serve_does
from plumbline_serve.deployments.token_check import require_token
from plumbline_serve.deployments.transport import DeploymentMetrics, Replicas
from plumbline_serve.edge import Access, EdgeObserver, GrpcEdge, InferenceEdge, create_app
from plumbline_serve.machine.processes import Process, find, send
from plumbline_serve.metrics import Instruments, Snapshot
from plumbline_serve.request_ids import WithoutRequestId
from plumbline_serve.tracing import open_tracing

log = logging.getLogger(__name__)


class _Rpcs:
    """The methods that Ray Serve calls by the last part of an RPC's path."""

    _grpc: GrpcEdge

    async def Score(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.score(request, grpc_context)

    async def Rank(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.rank(request, grpc_context)

    async def Filter(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.filter(request, grpc_context)

    async def Select(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.select(request, grpc_context)

    async def Embed(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.embed(request, grpc_context)

    async def Diversity(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.diversity(request, grpc_context)

    async def Distance(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.distance(request, grpc_context)

    async def Audit(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.audit(request, grpc_context)

    async def ReferSet(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.refer_set(request, grpc_context)

    async def ListReferenceSets(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.list_reference_sets(request, grpc_context)

    async def DeleteReferenceSet(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.delete_reference_set(request, grpc_context)

    async def ListScorers(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.list_scorers(request, grpc_context)

    async def ListModels(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.list_models(request, grpc_context)

    async def ScoreStream(self, requests: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for reply in self._grpc.score_stream(requests, grpc_context):
            yield reply

    async def Check(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.check(request, grpc_context)

    async def List(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the schema
        return await self._grpc.check_all(request, grpc_context)

    async def Watch(self, request: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for reply in self._grpc.watch(request, grpc_context):
            yield reply


class _InferenceRpcs:
    """The same of the Open Inference Protocol."""

    _inference: InferenceEdge

    async def ServerLive(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ServerLive", request, grpc_context)

    async def ServerReady(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ServerReady", request, grpc_context)

    async def ModelReady(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ModelReady", request, grpc_context)

    async def ServerMetadata(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ServerMetadata", request, grpc_context)

    async def ModelMetadata(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ModelMetadata", request, grpc_context)

    async def ModelConfig(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ModelConfig", request, grpc_context)

    async def ModelInfer(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - named by the protocol
        return await self._inference.call("ModelInfer", request, grpc_context)


class Gateway(_Rpcs, _InferenceRpcs):
    """Answers callers; takes them only once every encoder is loaded, compiled and warmed.

    Args:
        generation: What is configured.
        groups: Of encoders, by name; None: this process holds them all.
        command: `plumbline serve` on this machine, which reads the configuration anew when it is told to.
        before: Deployments of the groups whose place this process takes.
    """

    _local: LocalCompute | None = None
    _handover: Handover | None = None
    """Of the encoders in this process."""
    _follower: GroupFollower | None = None
    """Of those in groups."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self,
        generation: Generation,
        groups: Mapping[str, DeploymentHandle[Any]] | None = None,
        *,
        command: Process | None = None,
        before: Sequence[DeploymentHandle[Any]] = (),
    ) -> None:
        self._settings, self._number = generation.settings, generation.number
        settings = self._settings
        collect_seldom()
        log_as_ray_serve_does(settings.log_level, "gateway")
        require_token(settings.auth)
        self._groups = groups or {}
        self._command = command
        self._scraped: list[DeploymentMetrics] = []
        self._instruments = instruments = Instruments()
        self._tracing = tracing = open_tracing(settings.tracing)
        self._observer: EdgeObserver = instruments if tracing is None else tracing.observer(instruments)
        self._access = Access.open(settings.auth, self._observer)
        scorers, compute = self._scorers_here(generation) if groups is None else self._scorers_over(generation, groups)
        assembly = assemble(
            settings, scorers, compute=compute, instruments=instruments, gather=self._gather, keeps_counts=True
        )
        self._service, self._monitor = assembly.service, assembly.monitor
        self._bytes = assembly.bytes_in_flight
        shared: dict[str, Any] = {"bytes_in_flight": self._bytes, "access": self._access}
        self._grpc = GrpcEdge(self._service, settings, self._observer, **shared)
        self._inference = InferenceEdge(self._service, settings, self._observer, **shared)
        if tracing is not None:
            self._grpc, self._inference = tracing.rpcs(self._grpc), tracing.rpcs(self._inference)
        if self._local is not None:
            await self._local.start()
        if self._handover is not None:
            await self._handover.check(await running_before(before))
        if self._follower is not None:
            await self._follower.start(assembly, self._ask_others)
        await asyncio.to_thread(assembly.decoder.settle)
        instruments.loaded(await self._service.scorers(), await compute.infos())
        self._service.is_loaded = True
        self._watching = asyncio.create_task(self._monitor.watch(), name="watch drift")

    def _scorers_here(self, generation: Generation) -> tuple[dict[str, Scorer], Compute]:
        told, settings = self._instruments, generation.settings
        scorers = make_scorers(settings, on_fallback=told.fell_back, on_lookup=told.looked_up)
        encoders = encoders_of(scorers.values())
        self._local = local_compute(settings, encoders, told, tracing=self._tracing)
        parts: dict[str, Any] = {"compute": self._local, "instruments": told}
        self._handover = Handover(generation.number, scorers.values(), encoders, **parts)
        return scorers, self._local

    def _scorers_over(
        self, generation: Generation, groups: Mapping[str, DeploymentHandle[Any]]
    ) -> tuple[dict[str, Scorer], Compute]:
        self._follower = GroupFollower(generation, groups, self._instruments)
        return self._follower.scorers, self._follower.compute

    def __serve_build_asgi_app__(self) -> WithoutRequestId:
        """Called by Ray once the constructor has returned."""
        app = create_app(
            self._service,
            self._settings,
            self._observer,
            bytes_in_flight=self._bytes,
            access=self._access,
            reload=self._reload if self._command is not None else None,
        )
        return WithoutRequestId(app if self._tracing is None else self._tracing.application(app))

    async def descriptions(self) -> Descriptions | None:
        """What this gateway knows of the groups; None: it answers no callers."""
        is_answering = self._service.is_loaded and not self._service.is_draining
        return self._follower.compute.descriptions if self._follower is not None and is_answering else None

    async def generation_number(self) -> int:
        """Of the configuration that it was started with."""
        return self._number

    async def compare(self, number: int, after: Mapping[str, Sample]) -> Mapping[str, Verdict]:
        """As `Handover.compare`, of the encoders in this process.

        Args:
            number: As there.
            after: As there.
        """
        return {} if self._handover is None else await self._handover.compare(number, after)

    async def metrics_snapshot(self) -> Snapshot:
        """This process's metrics."""
        return self._instruments.snapshot()

    async def drain(self) -> int:
        """Take no new work and wait for what is under way; Ray may stop this gateway at once then.

        Returns:
            Requests still under way when the time was up; 0 if all were answered.
        """
        num_left = await self._service.drain(self._settings.replicas.drain_timeout_s)
        if num_left:
            log.warning("%d requests were still under way when draining ended", num_left)
        await self._monitor.flush()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.flush)
        # No gateway follows this one that HAProxy would have to find first.
        ray_replica.RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S = 0.0  # type: ignore[attr-defined]
        return num_left

    def _reload(self) -> None:
        """Have the command read its configuration anew, as long as it is the one that started this gateway."""
        command = self._command
        if command is not None and (seen := find(command.pid)) is not None and seen.started == command.started:
            send(command.pid, signal.SIGHUP)

    def check_health(self) -> None:
        """Called by Ray; raises when the replica should be replaced."""
        if self._local is not None:
            self._local.check_alive()

    async def _gather(self) -> Sequence[Snapshot]:
        """What every replica of the application counts."""
        if not self._scraped:
            self._scraped = [DeploymentMetrics(handle) for handle in (_gateways(), *self._groups.values())]
        found = await asyncio.gather(*(deployment.gather() for deployment in self._scraped))
        return [snapshot for each in found for snapshot in each] or [self._instruments.snapshot()]

    async def _ask_others(self) -> Sequence[Descriptions]:
        try:
            others = await Replicas(_gateways()).call_each("descriptions", timeout_s=LOOK_TIMEOUT_S)
        except CapacityError:
            return []
        return [other for other in others if isinstance(other, Mapping)]


def _gateways() -> DeploymentHandle[Any]:
    """The deployment of this gateway."""
    context = ray_serve.get_replica_context()
    return ray_serve.get_deployment_handle(context.deployment, context.app_name)
