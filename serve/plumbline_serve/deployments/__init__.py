"""The Ray Serve deployments: gateways that answer callers, and replicas that hold encoders."""

from plumbline_serve.deployments.encoder_replica import EncoderReplica
from plumbline_serve.deployments.gateway import Gateway

__all__ = ["EncoderReplica", "Gateway"]
