import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.store.key import EngineKey
from tests.models.backends.store_entries import (
    KEY,
    NEXT_KEY,
    PLAN,
    build,
    filled,
    flip_a_byte,
    get_or_build,
    must_not_build,
    read,
    refuse,
    write_artefacts,
)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def edit_manifest(entry: Path, edit: Callable[[dict], object]) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    edit(manifest)
    (entry / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_stored_is_found_by_another_process(tmp_path: Path) -> None:
    built = get_or_build(tmp_path)
    found = get_or_build(tmp_path, build=must_not_build)
    assert (built.value, built.was_found) == (found.value, False) == (PLAN, not found.was_found)
    assert found.folder == built.folder


def test_what_is_compiled_is_told_and_what_is_found_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    filled(tmp_path)
    said = [record.getMessage() for record in caplog.records]
    assert [each.partition(" with ")[0] for each in said] == [
        f"{verb} {KEY.facts['graph']}" for verb in ("Compiling", "Compiled")
    ]
    caplog.clear()
    get_or_build(tmp_path, build=must_not_build)
    assert not caplog.records


def test_another_version_does_not_find_it(tmp_path: Path) -> None:
    filled(tmp_path)
    assert not get_or_build(tmp_path, key=NEXT_KEY).was_found


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
        pytest.param(lambda e: edit_manifest(e, lambda m: m["key"].update(layout=0)), id="manifest_layout"),
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

    def write(folder: Path) -> None:
        assert not os.path.lexists(entry)
        write_artefacts(folder)

    again = get_or_build(tmp_path, build=build(write))
    assert (again.folder, again.value, again.was_found) == (entry, PLAN, False)
    assert len(warnings_of(caplog)) == 1
    get_or_build(tmp_path, build=must_not_build)


def test_an_entry_that_cannot_be_read_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path)
    refusals = [refuse]
    again = get_or_build(tmp_path, read=lambda folder: refusals.pop()(folder) if refusals else read(folder))
    assert (again.value, again.was_found) == (PLAN, False)
    assert "Removing a stored engine: the library refuses it" in caplog.text
    get_or_build(tmp_path, build=must_not_build)


def test_what_cannot_be_read_back_is_used_from_memory_and_not_kept(tmp_path: Path) -> None:
    entry = get_or_build(tmp_path, read=refuse)
    assert (entry.value, entry.folder, entry.was_found) == (b"from memory", None, False)
    assert not (tmp_path / "engines" / KEY.digest).exists()


def test_what_was_shipped_comes_first_and_is_passed_over_where_it_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = filled(tmp_path / "shipped")
    store = EngineStore(tmp_path / "own", tmp_path / "shipped")
    assert get_or_build(store, build=must_not_build).folder == shipped
    assert not (tmp_path / "own").exists()
    flip_a_byte(shipped)
    own = get_or_build(store).folder
    assert own is not None
    assert own.is_relative_to(tmp_path / "own")
    assert get_or_build(store, build=must_not_build).folder == own
    assert shipped.exists()
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("is_whole", [True, False])
def test_an_entry_that_another_made_meanwhile_is_kept_where_it_is_whole(tmp_path: Path, is_whole: bool) -> None:
    """As where the lock is not to be had and two build."""
    inodes: list[int] = []

    def write(folder: Path) -> None:
        other = tmp_path / "engines" / KEY.digest
        shutil.copytree(filled(tmp_path / "other"), other)
        if not is_whole:
            flip_a_byte(other)
        inodes.append(other.stat().st_ino)
        write_artefacts(folder)

    entry = get_or_build(tmp_path, build=build(write))
    assert entry.folder is not None
    assert (entry.folder.stat().st_ino == inodes[0]) is is_whole
    assert entry.value == PLAN
    assert {path.name for path in entry.folder.parent.iterdir()} == {KEY.digest, f"{KEY.digest}.lock"}


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_artefacts(folder)
        raise ValueError("the compiler gave up")

    with pytest.raises(ValueError, match="gave up"):
        get_or_build(tmp_path, build=build(write))
    assert [path.suffix for path in (tmp_path / "engines").iterdir()] == [".lock"]


def test_a_store_that_cannot_be_made_is_one_warning_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = EngineStore(tmp_path / "file" / "cache")
    for key in (KEY, NEXT_KEY):
        entry = get_or_build(store, key=key)
        assert (entry.value, entry.folder, entry.was_found) == (b"from memory", None, False)
    assert len(warnings_of(caplog)) == 1


def test_a_key_is_json_and_its_order_does_not_matter() -> None:
    shuffled = EngineKey(dict(reversed(list(KEY.facts.items()))))
    assert shuffled.digest == KEY.digest
