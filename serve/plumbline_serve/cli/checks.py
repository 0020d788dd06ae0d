"""What the service needs besides weights and backends, looked at before anything is started.

`plumbline serve` refuses to start where something that it cannot do without is missing, and says all of it at once;
`plumbline doctor` shows what was found, also where it is fine.
"""

import asyncio
import ipaddress
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plumbline_models.core.errors import CapacityError, ConfigError
from plumbline_serve.edge.access import answers, read_keys
from plumbline_serve.fetching import tls_context
from plumbline_serve.launch.ray_environment import OBJECT_STORE_BYTES, check_tls, listening, temp_dir
from plumbline_serve.machine.ports import held_block, obstacle
from plumbline_serve.machine.ray_token import check_own_start
from plumbline_serve.settings import Settings
from plumbline_serve.settings.store import store_file
from plumbline_serve.store import Store

MIN_DESCRIPTORS = 2048
"""Files and connections that one process may hold open. HAProxy lets in as many callers as there are left for."""
GOOD_DESCRIPTORS = 65_536  # what Ray asks for
MIN_TEMP_BYTES = 64 * 2**20  # Ray's sockets and the logs of a start
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the system's, for Ray's object store  # nosec B108
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_fine: bool
    found: str
    advice: str = ""
    is_needed: bool = True
    """Whether the service cannot start without it."""


def look(settings: Settings) -> Iterator[Finding]:
    """Look at everything of this page; nothing is started, and nothing is left."""
    yield from _ports(settings)
    yield from _keys(settings)
    yield from _limits(settings)
    yield from _tls(settings)
    yield from _urls(settings)
    yield _descriptors()
    yield _home()
    yield _temporary()
    yield from _shared_memory()
    yield _cache(settings.cache_dir)
    yield _store(settings)
    yield _token(settings)


def is_open(settings: Settings) -> bool:
    """Whether others than this machine's users may call without a key."""
    return settings.auth.keys_file is None and not _is_loopback(settings.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_descriptor_limit() -> None:
    """Let this process and those that it starts hold as many files open as they need, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = GOOD_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, GOOD_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, host, port, where in listening(settings):
        reason = obstacle(host, port)
        found = f"{host}:{port} is free" if reason is None else f"Nothing can listen on {host}:{port} ({reason})."
        yield Finding(f"{name} port", reason is None, found, f"Choose another with {where}, or another --host.")
    if settings.port == settings.grpc_port:
        found = f"REST and gRPC cannot share port {settings.port}."
        yield Finding("ports", is_fine=False, found=found, advice="Give REST and gRPC a port each.")
    try:
        with held_block(avoid=frozenset({settings.port, settings.grpc_port})) as block:
            yield Finding("inner ports", is_fine=True, found=f"{len(block)} in a row are free, such as {block[0]}")
    except ConfigError as error:
        yield Finding("inner ports", is_fine=False, found=error.detail, advice="End what listens there.")


def _keys(settings: Settings) -> Iterator[Finding]:
    if is_open(settings):
        found = f"none: everybody who can reach {settings.host}:{settings.port} and :{settings.grpc_port} may call"
        advice = "Set auth.keys_file, which plumbline keys new makes, or --host 127.0.0.1 to stay on this machine."
        yield Finding("API keys", is_fine=False, found=found, advice=advice, is_needed=False)
    if settings.auth.keys_file is None:
        return
    try:
        num_keys = len(read_keys(settings.auth.keys_file))
    except ConfigError as error:
        advice = "Make it with plumbline keys, as the user that the service runs as."
        yield Finding("API keys", is_fine=False, found=error.detail, advice=advice)
    else:
        found, advice = f"{num_keys} in {settings.auth.keys_file}", "Nobody may call: plumbline keys new makes one."
        yield Finding("API keys", num_keys > 0, found, advice, is_needed=False)


def _limits(settings: Settings) -> Iterator[Finding]:
    if settings.auth.limits_url is None:
        return
    try:
        is_there = asyncio.run(answers(settings.auth.limits_url))
    except ConfigError as error:
        yield Finding("shared limits", is_fine=False, found=error.detail)
    else:
        found = "the Redis of auth.limits_url answers" if is_there else "the Redis of auth.limits_url does not answer"
        advice = "Each gateway counts what keys use by itself until it does."
        yield Finding("shared limits", is_there, found, advice, is_needed=False)


def _tls(settings: Settings) -> Iterator[Finding]:
    if settings.tls.cert is None:
        return
    try:
        check_tls(settings)
    except ConfigError as error:
        yield Finding("TLS", is_fine=False, found=error.detail)
    else:
        yield Finding("TLS", is_fine=True, found=str(settings.tls.cert))


def _urls(settings: Settings) -> Iterator[Finding]:
    if not settings.urls.enabled:
        return
    try:
        tls_context(settings.urls.ca_file)
    except ConfigError as error:
        yield Finding("images by URL", is_fine=False, found=error.detail)
    else:
        yield Finding("images by URL", is_fine=True, found=f"from {', '.join(settings.urls.allow_hosts)}")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_fine = hard == resource.RLIM_INFINITY or hard >= MIN_DESCRIPTORS
    found = "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard:,} per process"
    advice = (
        f"The service needs {MIN_DESCRIPTORS:,}, and two more for each connection: raise the hard limit "
        "(`ulimit -Hn`, LimitNOFILE= of systemd)."
    )
    return Finding("open files", is_fine, found, advice)


def _home() -> Finding:
    with suppress(RuntimeError):
        home = Path.home()
        if os.access(home, os.W_OK | os.X_OK):
            return Finding("home folder", is_fine=True, found=str(home))
        return _no_home(f"{home} cannot be written to.")
    return _no_home("There is none: HOME is not set, and the user has no entry with one.")


def _no_home(found: str) -> Finding:
    advice = "Engines and weights are kept there by default: set HOME, or PLUMBLINE_CACHE_DIR and HF_HOME."
    return Finding("home folder", is_fine=False, found=found, advice=advice, is_needed=False)


def _temporary() -> Finding:
    folder = temp_dir()
    reason = _cannot_write(Path(folder))
    if reason is None and (free := shutil.disk_usage(folder).free) < MIN_TEMP_BYTES:
        reason = f"only {free // MIB} MiB are free"
    found = f"{folder} can be written to" if reason is None else f"{folder}: {reason}."
    advice = f"Ray's sockets and logs lie there: free {MIN_TEMP_BYTES // MIB} MiB, or set TMPDIR to a short path."
    return Finding("temporary files", reason is None, found, advice)


def _shared_memory() -> Iterator[Finding]:
    if not Path("/proc").is_dir():
        return
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError as error:
        found, is_fine = f"{SHARED_MEMORY}: {error.strerror}.", False
    else:
        found, is_fine = f"{usage.free // MIB:,} MiB are free", usage.free >= OBJECT_STORE_BYTES
    advice = (
        f"Ray keeps its object store of {OBJECT_STORE_BYTES // MIB} MiB among the temporary files instead: slower "
        "between replicas, and without effect in the fused layout. Containers: --shm-size=256m."
    )
    yield Finding("shared memory", is_fine, found, advice, is_needed=False)


def _cache(folder: Path) -> Finding:
    reason: str | None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        reason = _cannot_write(folder)
    advice = "Engines are compiled at every start; set PLUMBLINE_CACHE_DIR to a folder that can be written."
    found = str(folder) if reason is None else f"{folder}: {reason}."
    return Finding("engine cache", reason is None, found, advice, is_needed=False)


def _store(settings: Settings) -> Finding:
    """Whether decisions could be kept; nothing is made for it."""
    path = store_file(settings.store)
    if path is None:
        is_fine, found = asyncio.run(_answers(settings))
    else:
        is_fine, found = _can_be_kept(path)
    advice = "Calibrations cannot be used or kept, and scoring goes on; see docs/decisions.md."
    return Finding("store", is_fine, found, advice, is_needed=False)


async def _answers(settings: Settings) -> tuple[bool, str]:
    try:
        store = Store(settings.store)
        found = await store.all_of("calibration")
    except (ConfigError, CapacityError) as error:
        return False, f"{error.detail} {error.facts.get('cause', '')}".strip()
    store.close()
    return True, f"PostgreSQL answers; calibrations: {len(found)}"


def _can_be_kept(path: Path) -> tuple[bool, str]:
    try:
        file = path.expanduser().absolute()
    except RuntimeError:
        return False, f"{path} is in a home folder, and there is none here."
    there = next(each for each in (file, *file.parents) if each.exists())
    is_file = there == file and there.is_file()
    if not os.access(there, os.W_OK) or not (is_file or there.is_dir()):
        return False, f"{file}: {there} cannot be written to."
    return True, f"{file}{'' if is_file else ', made with the first decision'}"


def _cannot_write(folder: Path) -> str | None:
    """Why not, in the system's words; a disk that is full takes the name of a file, and no bytes."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _token(settings: Settings) -> Finding:
    try:
        check_own_start(os.environ, is_required=settings.auth.require_ray_token)
    except ConfigError as error:
        return Finding("Ray's token", is_fine=False, found=error.detail)
    return Finding("Ray's token", is_fine=True, found="as the variables of the command have it, or the service's own")
