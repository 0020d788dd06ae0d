"""The gRPC wire of Plumbline, shared by the service and its clients: messages in `plumbline_wire.v1`.

`clients/proto/plumbline/v1/scoring.proto` is the source; `make proto` compiles it.
"""

from typing import Final

SCORING_SERVICE: Final = "plumbline.v1.Scoring"
"""The service's full name, as health checks and reflection know it."""
ADD_SCORING_SERVICER: Final = "plumbline_wire.v1.scoring_pb2_grpc.add_ScoringServicer_to_server"
"""Import path of the function that registers a servicer, for servers that are configured by name."""
ERROR_DOMAIN: Final = "plumbline"
"""`ErrorInfo.domain` of every error."""
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"
"""Trailing metadata that carries the `google.rpc.Status` of a failed call."""
REQUEST_ID_KEY: Final = "x-request-id"
"""Header (REST) and metadata (gRPC) that name a request, both ways."""

__all__ = [
    "ADD_SCORING_SERVICER",
    "ERROR_DOMAIN",
    "REQUEST_ID_KEY",
    "SCORING_SERVICE",
    "STATUS_DETAILS_KEY",
]
