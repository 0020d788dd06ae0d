"""Keeps the gRPC servers of this process to this machine, where Ray itself is.

Ray Serve binds them to every interface and has no setting for it: each gateway's, which answers the whole API past
HAProxy, the Python proxy's, and the one on which replicas unpickle what gateways send.
"""

import ray
from grpc.aio._server import Server  # what `grpc.aio.server` makes, and Ray's own is derived from

EVERY_INTERFACE, LOOPBACK = "[::]", "127.0.0.1"


_add_insecure_port = Server.add_insecure_port
_add_secure_port = Server.add_secure_port


def keep_grpc_local() -> None:
    """Have servers of this process that are started from now on listen on the loopback interface.

    Does nothing on a node that others of a cluster reach by its address.
    """
    if ray.util.get_node_ip_address() == LOOPBACK:  # type: ignore[no-untyped-call]
        Server.add_insecure_port = lambda self, address: _add_insecure_port(self, _local(address))
        Server.add_secure_port = lambda self, address, keys: _add_secure_port(self, _local(address), keys)  # pyright: ignore[reportAttributeAccessIssue] - its stubs have another signature


def _local(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{LOOPBACK}:{port}" if host == EVERY_INTERFACE else address
