"""Builds the Ray Serve application from the settings: `plumbline serve`, `serve run` and `serve deploy` all call it."""

import time
from collections.abc import Sequence
from typing import Any

from ray import serve as ray_serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, gRPCOptions
from ray.serve.schema import LoggingConfig

from plumbline_models.core.errors import ConfigError
from plumbline_serve.configured_scorers import check_scorers
from plumbline_serve.deployments import EncoderReplica, Gateway
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.haproxy.plan import GRPC_PLACES, PROBE_PLACES, REST_PLACES, WATCH_PLACES
from plumbline_serve.haproxy.rewriting import STREAM_PLACES
from plumbline_serve.machine.processes import Process
from plumbline_serve.settings import Settings
from plumbline_serve.settings.groups import GroupSettings

APP_NAME = "plumbline"
GRPC_SERVICERS = (
    "plumbline_serve.edge.grpc.unreadable.add_scoring",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)
INFERENCE_SERVICER = "plumbline_serve.edge.compat.inference_rpcs.add_inference"
"""In addition, where `edge.compat` names `open_inference`."""
MAX_ONGOING_REQUESTS = REST_PLACES + GRPC_PLACES + STREAM_PLACES + WATCH_PLACES + 2 * PROBE_PLACES
"""HAProxy lets no more through."""
POLICY = "plumbline_serve.deployments.autoscaling:QueuedSeconds"
LOOK_BACK_S = 12.0
"""Over which queued work is averaged: replicas report every 10 s unless Ray is told otherwise."""
SURGE_PERCENT = 100
"""New replicas beside the old ones while they are replaced."""
HEALTH_PERIOD_S = 5.0
HEALTH_TIMEOUT_S = 8.0
"""Three in a row are taken for a hang; a batch on a busy machine may hold the interpreter for one."""
LOGGING = LoggingConfig(enable_access_log=False)  # the edge counts requests; one log line each costs more than the hop


def build(settings: Settings) -> Application:
    """The application for a cluster; see `application`.

    Raises:
        ConfigError: Its scorers are not valid, or it should have TLS, which only `plumbline serve` can give it.
    """
    if settings.tls.cert is not None:
        raise ConfigError(
            "On a cluster what stands in front of Ray's proxies ends TLS: leave out the section tls, and serve nothing "
            "in the clear beyond it."
        )
    check_scorers(settings)
    return application(Generation(time.time_ns(), settings))


def application(
    generation: Generation, *, command: Process | None = None, beside: Generation | None = None
) -> Application:
    """Gateways, and in the `split` layout encoder groups behind them, a deployment each.

    Where the application runs already, Ray starts replicas of the new one beside those of the old one, and stops these
    one by one as those get ready.

    Args:
        generation: What is configured.
        command: `plumbline serve`, which reads its configuration anew at SIGHUP; None: the application was deployed.
        beside: A configuration whose groups go on as they are, for the gateways that still call them.
    """
    before = [] if beside is None else list(_groups(beside).values())
    if generation.settings.replicas.layout == "fused":
        gpus = generation.settings.replicas.encoder_gpus
        return _gateways(generation, num_gpus=gpus).bind(generation, command=command, before=before)
    groups = _groups(generation, before)
    return _gateways(generation, num_gpus=0.0).bind(generation, groups, command=command)


def grpc_options(settings: Settings) -> gRPCOptions:
    """What Ray Serve's gRPC side needs to know; a Serve config file says the same."""
    also = [INFERENCE_SERVICER] if "open_inference" in settings.edge.compat else []
    return gRPCOptions(
        port=settings.grpc_port,
        grpc_servicer_functions=[*GRPC_SERVICERS, *also],
        enable_reflection=settings.edge.pages,
    )


def _groups(generation: Generation, before: Sequence[Application] = ()) -> dict[str, Application]:
    named = generation.settings.encoder_groups.items()
    return {name: _group(generation, name, group).bind(generation, name, before) for name, group in named}


def _group(generation: Generation, name: str, group: GroupSettings) -> ray_serve.Deployment:
    settings = generation.settings
    return ray_serve.deployment(name=generation.deployment(name))(EncoderReplica).options(
        **_version(generation),
        **_scale(group),
        **_place(group),
        max_ongoing_requests=group.max_ongoing,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=settings.replicas.drain_timeout_s,
        max_surge_percent=SURGE_PERCENT,
        logging_config=LOGGING,
    )


def _version(generation: Generation) -> dict[str, Any]:
    """By which Ray knows replicas that may go on, when the application is deployed again."""
    return {"version": str(generation.number), "_internal": True}


def _place(group: GroupSettings) -> dict[str, Any]:
    """What a replica reserves and where it may run, in Ray's words."""
    placement = group.placement
    actor: dict[str, Any] = {"num_cpus": group.cpus, "num_gpus": group.gpus}
    if placement.resources:
        actor["resources"] = placement.resources
    if placement.labels:
        actor["label_selector"] = placement.labels
    bound = {} if placement.max_per_node is None else {"max_replicas_per_node": placement.max_per_node}
    return {"ray_actor_options": actor, **bound}


def _scale(group: GroupSettings) -> dict[str, Any]:
    """How many replicas a group has, in Ray Serve's words."""
    scale = group.autoscale
    if scale is None:
        return {"num_replicas": group.replicas}
    kwargs: Any = {"target_queue_s": scale.target_queue_s}
    policy = AutoscalingPolicy(policy_function=POLICY, policy_kwargs=kwargs)  # type: ignore[no-untyped-call]
    return {
        "num_replicas": None,
        "autoscaling_config": AutoscalingConfig(
            min_replicas=scale.min,
            initial_replicas=group.first_replicas,
            max_replicas=scale.max,
            upscale_delay_s=scale.up_after_s,
            downscale_delay_s=scale.down_after_s,
            look_back_period_s=LOOK_BACK_S,
            policy=policy,
        ),
    }


def _gateways(generation: Generation, *, num_gpus: float) -> ray_serve.Deployment:
    replicas = generation.settings.replicas
    return ray_serve.deployment()(ray_serve.ingress()(Gateway)).options(
        **_version(generation),
        num_replicas=replicas.num_gateways,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": replicas.gateway_cpus, "num_gpus": num_gpus},
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=replicas.drain_timeout_s,
        max_surge_percent=SURGE_PERCENT,
        logging_config=LOGGING,
    )
