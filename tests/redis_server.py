"""A Redis of the tests' own, from Debian's package."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from plumbline_serve.machine.ports import free_port

WAIT_S = 30.0


@dataclass
class RedisServer:
    """One that runs."""

    process: subprocess.Popen[bytes]
    url: str
    password: str

    def clear(self) -> None:
        """Forget everything."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    @contextmanager
    def stopped(self, *, is_needed: bool = True) -> Iterator[None]:
        """A while in which it takes connections and does not answer."""
        if not is_needed:
            yield
            return
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(folder: Path, *, password: str) -> Iterator[RedisServer]:
    """A server that keeps nothing on disk; skips the test where the package cannot be had.

    Args:
        folder: For its configuration, so that the password is on no command line.
        password: That it asks for.
    """
    port = free_port()
    configuration = folder / "redis.conf"
    configuration.write_text(
        f'bind 127.0.0.1\nport {port}\nsave ""\nappendonly no\nrequirepass {password}\ndir {folder}\n'
    )
    with subprocess.Popen([_program(), configuration], stdout=subprocess.DEVNULL) as process:
        try:
            _await(port)
            yield RedisServer(process, f"redis://:{password}@127.0.0.1:{port}/0", password)
        finally:
            process.terminate()


def _program() -> str:
    """Debian's `redis-server`; installed where root runs the tests and a mirror answers."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("there is no redis-server here: apt-get install redis-server")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    commands = (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "redis-server"])
    for command in commands:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if ran.returncode:
            pytest.skip(f"{' '.join(command)} fails: {ran.stderr.strip().splitlines()[-1:]}")
    return "redis-server"


def _await(port: int) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.02)
        else:
            return
