"""The edges: REST and gRPC over one `Service`; they know the wires and nothing of encoders or Ray."""

from plumbline_serve.edge.access import Access
from plumbline_serve.edge.grpc.servicer import GrpcEdge
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.edge.rest.app import create_app

__all__ = ["Access", "EdgeObserver", "GrpcEdge", "create_app"]
