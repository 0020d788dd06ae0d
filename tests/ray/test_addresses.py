"""`--host 127.0.0.1` keeps everything on this machine: HAProxy, Ray's processes, the gateways' own servers."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
LISTEN = "0A"  # the kernel's number of the state
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # v4, v4 in v6, v6


def test_no_process_of_the_service_listens_on_another_interface(service, below):
    listening = sockets_of([service.process.pid, *below(service.process.pid)])
    assert {service.port, service.grpc_port} <= {port for _, port in listening}
    assert not {(address, port) for address, port in listening if address not in LOOPBACK}


def sockets_of(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Address, as the kernel writes it, and port of every TCP socket on which one of these processes listens."""
    inodes = {os.readlink(fd) for pid in pids for fd in descriptors(pid) if os.path.islink(fd)}  # noqa: PTH114, PTH115
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTEN and f"socket:[{rest[5]}]" in inodes:
                address, port = local.split(":")
                found.add((address, int(port, 16)))
    return found


def descriptors(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return []  # it has ended meanwhile
