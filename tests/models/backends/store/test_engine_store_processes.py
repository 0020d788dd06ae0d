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

from plumbline_models.backends.store.engine_store import PATIENCE_S, hold_lock
from tests.models.backends.store_entries import KEY, build, filled, get_or_build, write_artefacts
from tests.programs import program_environment

NOBODY = 65534
PROLOGUE = """
import os, resource, signal, sys
import filelock  # before a program becomes a user who may not read it
from pathlib import Path
from tests.models.backends.store_entries import *
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
        entry = get_or_build(Path(sys.argv[1]))
        print(entry.folder, entry.value)
    """
    result = run_program(program, tmp_path)
    assert result.stdout == "None b'from memory'\n"
    assert "cannot be written" in result.stderr
    assert [path.suffix for path in (tmp_path / "engines").iterdir()] == [".lock"]


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
        store = EngineStore(Path(sys.argv[1]))
        print(get_or_build(store, build=must_not_build).was_found)
        print(get_or_build(store, key=NEXT_KEY).folder)
        flip_a_byte(Path(sys.argv[2]))
        print(get_or_build(store).value)
    """
    result = run_program(program, open_dir / "cache", entry)
    assert result.stdout.splitlines() == ["True", "None", "b'from memory'"]


def test_a_killed_builder_blocks_nobody_and_its_leftovers_go(tmp_path: Path) -> None:
    program = """
        get_or_build(Path(sys.argv[1]), build=build(lambda folder: os.kill(os.getpid(), signal.SIGKILL)))
    """
    with pytest.raises(subprocess.CalledProcessError) as crash:
        run_program(program, tmp_path)
    assert crash.value.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "engines").glob("*.tmp")
    long_ago = left.stat().st_mtime - PATIENCE_S - 1
    os.utime(left, (long_ago, long_ago))

    def write(folder: Path) -> None:
        assert not left.exists()
        write_artefacts(folder)

    assert get_or_build(tmp_path, build=build(write)).folder is not None


def test_one_builder_waits_for_the_other(tmp_path: Path) -> None:
    program = """
        def write(folder):
            print("building", flush=True)
            sys.stdin.readline()
            write_artefacts(folder)

        entry = get_or_build(Path(sys.argv[1]), build=build(write))
        print(entry.was_found, entry.value == PLAN)
    """
    command = command_of(program, tmp_path)
    with started(command) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "building\n"
        with started(command) as second:
            first_said, _ = first.communicate("go on\n", timeout=60)
            second_said, _ = second.communicate(timeout=60)
    assert first_said == "False True\n"
    assert second_said == "True True\n"


def test_patience_with_a_hung_builder_ends(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock") as first, hold_lock(tmp_path / "lock", patience_s=0.01) as second:
        assert first
        assert not second


def test_where_a_lock_is_refused_building_goes_on_without(tmp_path: Path) -> None:
    lock = tmp_path / "engines" / f"{KEY.digest}.lock"
    lock.mkdir(parents=True)
    with hold_lock(lock) as is_held:
        assert not is_held
    assert get_or_build(tmp_path).folder is not None
