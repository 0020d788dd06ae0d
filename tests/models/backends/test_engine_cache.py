import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline_models.backends.store.engine_store import EngineCache
from plumbline_models.backends.store.key import EngineKey
from tests.models.backends.cache_entries import KEY, NEXT_KEY, PLAN, filled, flip_a_byte, write_artefacts


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


def test_a_key_is_json_and_its_order_does_not_matter() -> None:
    shuffled = EngineKey(dict(reversed(list(KEY.facts.items()))))
    assert shuffled.digest == KEY.digest
