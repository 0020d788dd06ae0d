"""The real HAProxy, started by our launcher on what Ray's own template makes, before a gateway that does as told."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions, gRPCOptions

from plumbline_serve.haproxy.plan import write_launcher
from plumbline_serve.machine.ports import free_port
from plumbline_serve.settings import Limits, Settings

WAIT_S = 30.0


class Gateway:
    """Listens as a replica does: answers probes at once and everything else when the test says so."""

    def __init__(self) -> None:
        self.heads: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.gone: asyncio.Queue[str] = asyncio.Queue()
        self.answer = asyncio.Event()
        self.metadata: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.port = self.grpc_port = 0
        self._serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.split("\r\n")
                if " /-/healthz " not in request and " /livez " not in request:
                    fields = dict(line.split(": ", 1) for line in lines if line)
                    await reader.readexactly(int(fields.get("content-length", "0")))
                    self.heads.put_nowait(fields)
                    await self._until_answered(reader, request)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def stop(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _until_answered(self, reader: asyncio.StreamReader, request: str) -> None:
        told = asyncio.ensure_future(self.answer.wait())
        hung_up = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({told, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if hung_up.done():
            self.gone.put_nowait(request)
        for waiting in (told, hung_up):
            waiting.cancel()
        await asyncio.gather(told, hung_up, return_exceptions=True)

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.metadata.put_nowait(dict(context.invocation_metadata()) | {"peer": context.peer()})
        async for request in requests:
            yield request


class Front:
    """A running HAProxy."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        address = ("127.0.0.1", self.settings.port)
        return socket.create_connection(address, timeout=WAIT_S, source_address=(source, 0))

    async def ask(self, sent: bytes, source: str = "127.0.0.1") -> tuple[int, bytes]:
        """The status and the rest of the answer to a request."""
        return await asyncio.to_thread(self._ask, sent, source)

    def _ask(self, sent: bytes, source: str) -> tuple[int, bytes]:
        with closing(self.connect(source)) as connection:
            connection.sendall(sent)
            answer = connection.recv(65536)
        return int(answer.split()[1]), answer

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.settings.grpc_port}")


def rays_config(folder: Path, settings: Settings, gateway: Gateway | None, *, has_proxy: bool = False) -> Path:
    """What Ray writes for an application with one gateway; None: for one without.

    Args:
        folder: For the configuration.
        settings: Where HAProxy listens.
        gateway: That answers.
        has_proxy: Whether Ray's own proxy stands in for gateways, as on a cluster.
    """
    file = folder / "haproxy.cfg"
    options = gRPCOptions(port=settings.grpc_port, grpc_servicer_functions=["plumbline_serve.app.build"])
    config = HAProxyConfig(
        socket_path=str(folder / "s"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        stats_port=free_port(),
        metrics_port=free_port(),
        metrics_enabled=False,
        nbthread=1,
        http_options=HTTPOptions(host="127.0.0.1", port=settings.port),
        grpc_options=options,
    )
    kinds = {"http": RequestProtocol.HTTP, "grpc": RequestProtocol.GRPC}
    backends, proxy = {}, ServerConfig("rays-proxy", "127.0.0.1", free_port()) if has_proxy else None
    for name, protocol in kinds.items():
        ports = {} if gateway is None else {"http": gateway.port, "grpc": gateway.grpc_port}
        backends[name] = BackendConfig(
            name=name,
            path_prefix="/",
            app_name="plumbline",
            protocol=protocol,
            servers=[ServerConfig("gateway", "127.0.0.1", port) for kind, port in ports.items() if kind == name],
            fallback_server=proxy,
        )
    api = HAProxyApi(config, backends, config_file_path=str(file))
    api.set_grpc_fallback_server(proxy)
    api._generate_config_file_internal()
    pages = [config.metrics_port, config.stats_port]
    launcher = write_launcher(folder, settings, pages)
    assert launcher is not None
    return file


def write_cluster_launcher(folder: Path) -> Path:
    """`plumbline-haproxy` as an installation has it."""
    launcher = folder / "plumbline-haproxy"
    command = f"{sys.executable} -m plumbline_serve.haproxy.on_cluster"
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    launcher.chmod(0o700)
    return launcher


def some_settings(**limits: int) -> Settings:
    return Settings(host="127.0.0.1", port=free_port(), grpc_port=free_port(), limits=Limits(**limits))
