"""Runs the service in a network of its own and sends a pickle that runs code to every port that listens there.

`unshare --net` around it: the network has loopback and one address more, as a machine that others reach.
`hostile_pickles.py FOLDER ADDRESS`; prints what it found as JSON.
"""

import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import grpc
from ray.serve.generated import serve_pb2

OUTSIDE = "10.203.0.1"
LISTEN = "0A"
WAIT_S = 3.0
START_S = 240.0
INNER = [f"/ray.serve.ASGIService/{name}" for name in ("HandleRequest", "HandleRequestWithRejection")]
INNER_STREAMS = [f"{name}Streaming" for name in INNER]
RAYS = (
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.InternalKVGcsService/InternalKVPut",
    "/ray.rpc.ActorInfoGcsService/RegisterActor",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.RuntimeEnvService/GetOrCreateRuntimeEnv",
    "/ray.serve.RayServeAPIService/ListApplications",
    "/plumbline.v1.Scoring/Score",
)
PATHS = ("/", "/v1/score", "/-/routes", "/api/job_agent/jobs/", "/api/jobs/", "/get_or_create_runtime_env")


class Touch:
    """Unpickled, it makes a file that says who did it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def main(folder: Path, address: str) -> None:
    prepare_network()
    ran = folder / "ran"
    ran.mkdir()
    service = begin(folder)
    try:
        ports = sorted(listening())
        found: dict[str, Any] = {"ports": ports, "open": {}, "statuses": {}}
        for port in ports:
            if not is_open(address, port):
                continue
            found["open"][port] = True
            for name, attack in ATTACKS.items():
                found["statuses"].setdefault(name, {})[port] = attack(address, port, ran / f"{name}-{port}")
        time.sleep(1.0)  # for what runs in the background
        found["ran"] = sorted(each.name for each in ran.iterdir())
        found["is_alive"] = is_open("127.0.0.1", 8000)
        found["log"] = (folder / "stderr.log").read_text(errors="replace")
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(120)
    print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads


def prepare_network() -> None:
    """Loopback, and an address by which other machines would reach this one."""
    for words in ("link set lo up", f"addr add {OUTSIDE}/24 dev lo"):
        subprocess.run(["ip", *words.split()], check=True)


def begin(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "plumbline_serve.cli", "serve", "--config", str(folder / "plumbline.yaml")]
    with (folder / "stderr.log").open("w") as log:
        service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    assert service.stdout is not None
    line = service.stdout.readline()
    if not line.startswith("Ready"):
        sys.exit((folder / "stderr.log").read_text(errors="replace")[-4000:])
    return service


def listening() -> Iterator[int]:
    """Every TCP port on which anything listens in this network."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == LISTEN:
                yield int(local.rpartition(":")[2], 16)


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=WAIT_S).close()
    except OSError:
        return False
    return True


def send_raw(address: str, port: int, file: Path) -> str:
    try:
        with socket.create_connection((address, port), timeout=WAIT_S) as connection:
            connection.sendall(pickle.dumps(Touch(file)))
            connection.shutdown(socket.SHUT_WR)
            return repr(connection.recv(64))
    except OSError as error:
        return type(error).__name__


def send_http(address: str, port: int, file: Path) -> str:
    statuses = []
    job = json.dumps({"entrypoint": f"touch {file}"}).encode()
    bodies = (("application/octet-stream", pickle.dumps(Touch(file))), ("application/json", job))
    for path in PATHS:
        for media_type, body in bodies:
            connection = HTTPConnection(address, port, timeout=WAIT_S)
            try:
                connection.request("POST", path, body, {"content-type": media_type})
                statuses.append(str(connection.getresponse().status))
            except (OSError, HTTPException) as error:
                statuses.append(type(error).__name__)
            finally:
                connection.close()
    return " ".join(sorted(set(statuses)))


def send_grpc(address: str, port: int, file: Path) -> str:
    touch = pickle.dumps(Touch(file))
    messages: Any = serve_pb2  # made at run time
    blob = messages.ASGIRequest(pickled_request_metadata=touch, request_args=touch, request_kwargs=touch)
    with grpc.insecure_channel(f"{address}:{port}", options=[("grpc.enable_retries", 0)]) as channel:
        codes = {code_of(channel, method, blob.SerializeToString()) for method in (*INNER, *INNER_STREAMS, *RAYS)}
    return " ".join(sorted(codes))


def code_of(channel: grpc.Channel, method: str, blob: bytes) -> str:
    try:
        if method in INNER_STREAMS:
            list(channel.unary_stream(method)(blob, timeout=WAIT_S))
        else:
            channel.unary_unary(method)(blob, timeout=WAIT_S)
    except grpc.RpcError as error:
        failed: Any = error  # a call as well
        return str(failed.code().name)
    return "OK"


def send_base64(address: str, port: int, file: Path) -> str:
    """As an image of a request: only what decodes images may look at it."""
    image = base64.b64encode(pickle.dumps(Touch(file))).decode()
    body = json.dumps({"items": [{"image": {"b64": image}}]}).encode()
    connection = HTTPConnection(address, port, timeout=WAIT_S)
    try:
        connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
        return str(connection.getresponse().status)
    except (OSError, HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


ATTACKS = {"raw": send_raw, "http": send_http, "grpc": send_grpc, "base64": send_base64}

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
