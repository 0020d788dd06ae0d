"""A PostgreSQL of the tests' own, from Debian's package."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

from plumbline_serve.machine.ports import free_port

WAIT_S = 60
PASSWORD = "not-to-be-seen-anywhere"  # noqa: S105
_DATABASES = count()


@dataclass
class PostgresServer:
    """One that runs, or can."""

    programs: Path
    folder: Path
    port: int

    def new_database(self) -> str:
        """The address of an empty one."""
        name = f"store_{next(_DATABASES)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://plumbline:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Begin to answer."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """End every connection."""
        self._control("stop", "-m", "immediate")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """A while in which nobody listens."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """A while in which connections stand and nothing is answered."""
        main = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        ids = [main, *map(int, children)]
        for each in ids:
            os.kill(each, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in ids:
                os.kill(each, signal.SIGCONT)

    def _control(self, *arguments: str) -> None:
        _run(str(self.programs / "pg_ctl"), "-D", str(self.folder / "data"), "-w", "-t", str(WAIT_S), *arguments)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server that keeps nothing for long; skips the test where the package cannot be had."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="plumbline-postgres-") as name:  # pytest's own may not be entered by others
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        secret = folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        _run(
            str(programs / "initdb"), "-D", str(folder / "data"), "-U", "plumbline", "--pwfile", str(secret),
            "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        server = PostgresServer(programs, folder, free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _run(*command: str) -> None:
    """As the user that Debian makes for it, where root runs the tests: the server refuses to be root's."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    ran = subprocess.run(
        [*user, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/", check=False
    )
    assert ran.returncode == 0, ran.stderr


def _programs() -> Path:
    if found := _found():
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("there is no PostgreSQL here: apt-get install postgresql")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
        ran = subprocess.run(
            ["apt-get", *command], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if ran.returncode:
            pytest.skip(f"apt-get {' '.join(command)} fails: {ran.stderr.strip().splitlines()[-1:]}")
    return _found() or pytest.skip("Debian's package has no initdb")


def _found() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian puts on no path."""
    found = [Path(path) for path in (shutil.which("initdb"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return found[0].resolve().parent if found else None
