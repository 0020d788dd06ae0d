"""The service as browsers and generated clients meet it: real sockets and networks, in this process, without Ray."""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright

from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.demo import exhibits
from plumbline_serve.edge import create_app
from plumbline_serve.machine.ports import free_port
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import AuthSettings, EdgeSettings
from tests.keys import add_key

T = TypeVar("T")
WAIT_S = 300
INSTALL_S = 240
UNREACHED = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ERR_SOCKET_TIMEOUT", "ENETUNREACH")
"""What npm says where its registry is not to be had."""


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class Served:
    """One service on a port."""

    url: str
    stop: Callable[[], None]
    """Whoever calls it later is not answered."""


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture(scope="session")
def assembly(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assembly]:
    """The embedded networks, loaded."""
    stack = AsyncExitStack()
    folder = tmp_path_factory.mktemp("cache")
    settings = Settings.model_validate(
        {"precision": "fp32", "cache_dir": folder, "store": f"sqlite:///{folder}/store.db"}
    )
    found = loop.run(stack.enter_async_context(assembled(settings)))
    found.instruments.loaded(loop.run(found.service.scorers()), loop.run(found.tools.compute.infos()))
    yield found
    loop.run(stack.aclose())


@pytest.fixture(scope="session")
def serve(loop: Loop, assembly: Assembly) -> Iterator[Callable[..., Served]]:
    """Serve it on one more port, with settings of the edge of its own."""
    started: list[Served] = []

    def start(**changes: Any) -> Served:
        settings = assembly.settings.model_copy(update=changes)
        app = create_app(assembly.service, settings, assembly.instruments, bytes_in_flight=assembly.bytes_in_flight)
        port = free_port()
        config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        running = asyncio.run_coroutine_threadsafe(server._serve(), loop._loop)
        while not server.started:
            assert not running.done(), running.exception()
            threading.Event().wait(0.01)

        def stop() -> None:
            server.should_exit = True
            running.result(WAIT_S)

        started.append(Served(f"http://127.0.0.1:{port}", stop))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def service(serve: Callable[..., Served]) -> Served:
    """The service that needs no key, and that pages of `http://pages.test` may call."""
    return serve(edge=EdgeSettings(cors_origins=("http://pages.test",)))


@pytest.fixture(scope="session")
def key_service(serve: Callable[..., Served], tmp_path_factory: pytest.TempPathFactory) -> tuple[Served, str]:
    """The same that asks for a key, and the key."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    add_key(file, "web")
    return serve(auth=AuthSettings(keys_file=file)), "web"


@pytest.fixture(scope="session")
def gallery() -> Path:
    return exhibits()[0].path.parent


def program(name: str, *packages: str) -> str:
    """A program of Debian, installed where root runs the tests and a mirror answers; else the test is skipped."""
    if (found := shutil.which(name)) is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"there is no {name} here: apt-get install {' '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    wait = ["-o", f"DPkg::Lock::Timeout={INSTALL_S // 2}"]  # another test may install something
    commands = (["apt-get", "update"], ["apt-get", *wait, "install", "--yes", "--no-install-recommends", *packages])
    for command in commands:
        try:
            ran = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{' '.join(command)} takes too long")
        if ran.returncode:
            pytest.skip(f"{' '.join(command)} fails: {ran.stderr.strip().splitlines()[-1:]}")
    return shutil.which(name) or name


def npm_install(folder: Path, *packages: str) -> Path:
    """Packages of npm in a folder of the tests; the test is skipped where the registry cannot be had.

    Args:
        folder: Where they go.
        *packages: By name and version; none: those of the folder's lock file.
    """
    npm = program("npm", "nodejs", "npm")
    command = [npm, "install" if packages else "ci", "--no-audit", "--no-fund", "--prefer-offline", *packages]
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer in time")
    if ran.returncode:
        reason = " ".join(ran.stderr.split())
        if any(code in reason for code in UNREACHED):
            pytest.skip(f"npm's registry does not answer: {reason[:200]}")
        raise AssertionError(reason)
    return folder / "node_modules"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    return (npm_install(folder, "axe-core@4.11.0") / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")  # its loop runs in this thread until it is closed: no other could
def browser() -> Iterator[Browser]:
    chromium = program("chromium", "chromium")
    with sync_playwright() as playwright:
        pages_may_call_this_machine = "--disable-features=LocalNetworkAccessChecks"  # `pages.test` is nowhere
        options = ["--no-sandbox", "--disable-dev-shm-usage", pages_may_call_this_machine]
        running = playwright.chromium.launch(executable_path=chromium, args=options)
        yield running
        running.close()
