import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_graphs import LIFT_GRAPH

from plumbline_models.backends.cache import EngineCache
from plumbline_models.backends.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.lock import PATIENCE_S, file_lock

RECIPE = Recipe(backend="probe", version="1", precision="fp32", device="cpu")
KEY = engine_key(LIFT_GRAPH, RECIPE)
NEXT_KEY = engine_key(LIFT_GRAPH, replace(RECIPE, version="2"))
PLAN = b"plan" * 1000
NOBODY = 65534


def write_artefacts(folder: Path) -> None:
    (folder / "graph.plan").write_bytes(PLAN)
    (folder / "graph.txt").write_text("layers")


def filled(cache_dir: Path) -> Path:
    entry = EngineCache(cache_dir).store(KEY, write_artefacts)
    assert entry is not None
    return entry


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def edit_manifest(entry: Path, edit: Callable[[dict], object]) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    edit(manifest)
    (entry / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_stored_is_found_by_another_process(tmp_path: Path) -> None:
    filled(tmp_path)
    entry = EngineCache(tmp_path).load(KEY)
    assert entry is not None
    assert (entry / "graph.plan").read_bytes() == PLAN


def test_another_version_does_not_find_it(tmp_path: Path) -> None:
    filled(tmp_path)
    assert EngineCache(tmp_path).load(NEXT_KEY) is None


def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    entry = filled(tmp_path / "new" / "cache")
    modes = {path.name: path.stat().st_mode & 0o777 for path in [entry, entry.parent, *entry.iterdir()]}
    assert modes == {
        entry.name: 0o700,
        "engines": 0o700,
        "graph.plan": 0o600,
        "graph.txt": 0o600,
        "manifest.json": 0o600,
    }


def test_the_manifest_names_the_graph_and_each_artefact(tmp_path: Path) -> None:
    manifest = json.loads((filled(tmp_path) / "manifest.json").read_text())
    assert manifest["key"] == KEY.facts
    assert manifest["files"]["graph.plan"]["num_bytes"] == len(PLAN)


def flip_a_byte(entry: Path) -> None:
    (entry / "graph.plan").write_bytes(PLAN[:-1] + b"!")


def cut_short(entry: Path) -> None:
    (entry / "graph.plan").write_bytes(PLAN[:100])


def alter_the_second(entry: Path) -> None:
    (entry / "graph.txt").write_text("reyals")


def link_elsewhere(entry: Path) -> None:
    (entry / "graph.plan").rename(entry.parent / "elsewhere")
    (entry / "graph.plan").symlink_to(entry.parent / "elsewhere")


def be_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_bytes(PLAN)


def be_a_link(entry: Path) -> None:
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to(entry.parent / "elsewhere")


def be_empty(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


def trust_the_altered(entry: Path) -> None:
    flip_a_byte(entry)
    edit_manifest(entry, lambda m: m["files"]["graph.plan"].update(sha256="0" * 64))


@pytest.mark.parametrize(
    "spoil",
    [
        flip_a_byte,
        cut_short,
        alter_the_second,
        link_elsewhere,
        be_a_file,
        be_a_link,
        be_empty,
        trust_the_altered,
        pytest.param(lambda e: (e / "graph.plan").unlink(), id="artefact_gone"),
        pytest.param(lambda e: (e / "added").touch(), id="file_added"),
        pytest.param(lambda e: (e / "manifest.json").unlink(), id="manifest_gone"),
        pytest.param(lambda e: (e / "manifest.json").write_text("{"), id="manifest_cut"),
        pytest.param(lambda e: (e / "manifest.json").write_bytes(b"\xff\xfe"), id="manifest_binary"),
        pytest.param(lambda e: (e / "manifest.json").write_text("[" * 100_000), id="manifest_deep"),
        pytest.param(lambda e: (e / "manifest.json").write_text("[]"), id="manifest_list"),
        pytest.param(lambda e: (e / "manifest.json").write_text(" " * 2_000_000), id="manifest_huge"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m.pop("key")), id="manifest_keyless"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m["key"].update(version="2")), id="manifest_version"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m["key"].update(format=0)), id="manifest_format"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m["files"].pop("graph.txt")), id="manifest_forgets"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m.update(files=[])), id="manifest_no_files"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m["files"].update({"graph.txt": 1})), id="manifest_no_facts"),
        pytest.param(lambda e: edit_manifest(e, lambda m: m["files"].update({"../x": {}})), id="manifest_outside"),
    ],
)
def test_a_broken_entry_is_removed_with_a_warning_and_can_be_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    entry = filled(tmp_path)
    spoil(entry)
    cache = EngineCache(tmp_path)
    assert cache.load(KEY) is None
    assert not os.path.lexists(entry)
    assert len(warnings_of(caplog)) == 1
    assert cache.store(KEY, write_artefacts) == entry
    assert cache.load(KEY) == entry


def test_storing_over_a_broken_entry_replaces_it(tmp_path: Path) -> None:
    flip_a_byte(filled(tmp_path))
    filled(tmp_path)
    assert EngineCache(tmp_path).load(KEY) is not None


def test_who_comes_second_keeps_the_first_entry(tmp_path: Path) -> None:
    entry = filled(tmp_path)
    inode = (entry / "graph.plan").stat().st_ino
    assert filled(tmp_path) == entry
    assert (entry / "graph.plan").stat().st_ino == inode
    assert [path.name for path in entry.parent.iterdir()] == [KEY.digest]


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_artefacts(folder)
        raise ValueError("the compiler gave up")

    with pytest.raises(ValueError, match="gave up"):
        EngineCache(tmp_path).store(KEY, write)
    assert list((tmp_path / "engines").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_warning_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = EngineCache(tmp_path / "file" / "cache")
    for key in (KEY, NEXT_KEY):
        assert cache.load(key) is None
        with cache.building(key):
            assert cache.store(key, write_artefacts) is None
    assert len(warnings_of(caplog)) == 1


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def command_of(program: str, *args: object) -> list[str]:
    """A program that sees what stands in this file."""
    code = "from test_engine_cache import *\n" + textwrap.dedent(program)
    return [sys.executable, "-c", code, *map(str, args)]


def run_program(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = command_of(program, *args)
    return subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=True, timeout=120)


def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
        import resource
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
            os.setuid(NOBODY)
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
        import signal
        cache = EngineCache(Path(sys.argv[1]))
        with cache.building(KEY):
            cache.store(KEY, lambda folder: os.kill(os.getpid(), signal.SIGKILL))
    """
    with pytest.raises(subprocess.CalledProcessError) as crash:
        run_program(program, tmp_path)
    assert crash.value.returncode == -9
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
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "building\n"
        with subprocess.Popen(command, **pipes) as second:
            first_said, _ = first.communicate("go on\n", timeout=60)
            second_said, _ = second.communicate(timeout=60)
    assert first_said == "True True\n"
    assert second_said == "False True\n"


def test_patience_with_a_hung_builder_ends(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock") as first, file_lock(tmp_path / "lock", patience_s=0.01) as second:
        assert first
        assert not second


def test_a_key_is_json_and_its_order_does_not_matter() -> None:
    shuffled = EngineKey(dict(reversed(KEY.facts.items())))
    assert shuffled.digest == KEY.digest
