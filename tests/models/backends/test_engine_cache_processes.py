import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline_models.backends.store.engine_store import EngineCache
from plumbline_models.backends.store.lock import PATIENCE_S, file_lock
from tests.models.backends.cache_entries import KEY, filled, write_artefacts
from tests.programs import program_environment

NOBODY = 65534
PROLOGUE = """
import os, resource, signal, sys
from pathlib import Path
from tests.models.backends.cache_entries import *
"""
ENVIRONMENT = program_environment()


def command_of(program: str, *args: object) -> list[str]:
    code = PROLOGUE + textwrap.dedent(program)
    return [sys.executable, "-c", code, *map(str, args)]


def run_program(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = command_of(program, *args)
    return subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=True, timeout=120)


def started(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT)


def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a write beyond fails as it does on a full disk
        print(EngineCache(Path(sys.argv[1])).store(KEY, write_artefacts))
    """
    result = run_program(program, tmp_path)
    assert result.stdout == "None\n"
    assert "cannot be written" in result.stderr
    assert list((tmp_path / "engines").iterdir()) == []


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder that any user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


def test_a_read_only_cache_still_serves_what_it_holds(open_dir: Path) -> None:
    entry = filled(open_dir / "cache")
    if os.geteuid() == 0:  # root writes everywhere
        open_dir.chmod(0o755)
        subprocess.run(["chown", "-R", str(NOBODY), open_dir / "cache"], check=True)
    entry.parent.chmod(0o500)
    program = """
        if os.geteuid() == 0:
            os.setuid(65534)
        cache = EngineCache(Path(sys.argv[1]))
        print(cache.load(KEY) is not None)
        with cache.building(NEXT_KEY):
            print(cache.load(NEXT_KEY), cache.store(NEXT_KEY, write_artefacts))
        flip_a_byte(Path(sys.argv[2]))
        print(cache.load(KEY))
    """
    result = run_program(program, open_dir / "cache", entry)
    assert result.stdout.splitlines() == ["True", "None None", "None"]


def test_a_killed_builder_blocks_nobody_and_its_leftovers_go(tmp_path: Path) -> None:
    program = """
        cache = EngineCache(Path(sys.argv[1]))
        with cache.building(KEY):
            cache.store(KEY, lambda folder: os.kill(os.getpid(), signal.SIGKILL))
    """
    with pytest.raises(subprocess.CalledProcessError) as crash:
        run_program(program, tmp_path)
    assert crash.value.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "engines").glob("*.tmp")
    long_ago = left.stat().st_mtime - PATIENCE_S - 1
    os.utime(left, (long_ago, long_ago))
    cache = EngineCache(tmp_path)
    with cache.building(KEY):
        assert not left.exists()
        assert cache.store(KEY, write_artefacts) is not None


def test_one_builder_waits_for_the_other(tmp_path: Path) -> None:
    program = """
        cache = EngineCache(Path(sys.argv[1]))
        with cache.building(KEY):
            built = cache.load(KEY) is None
            if built:
                print("building", flush=True)
                cache.store(KEY, lambda folder: (sys.stdin.readline(), write_artefacts(folder)))
        print(built, cache.load(KEY) is not None)
    """
    command = command_of(program, tmp_path)
    with started(command) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "building\n"
        with started(command) as second:
            first_said, _ = first.communicate("go on\n", timeout=60)
            second_said, _ = second.communicate(timeout=60)
    assert first_said == "True True\n"
    assert second_said == "False True\n"


def test_patience_with_a_hung_builder_ends(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock") as first, file_lock(tmp_path / "lock", patience_s=0.01) as second:
        assert first
        assert not second
