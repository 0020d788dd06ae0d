import json
import logging
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import seal
from plumbline_models.core.engines import Engine
from tests.models.backends.tiny_graphs import LIFT_GRAPH, unbuildable
from tests.programs import program_environment

ROWS = {"rows": np.ones((2, 4), np.float32)}
ENVIRONMENT = program_environment(OMP_NUM_THREADS="1")
PROGRAM = """
    import sys
    from pathlib import Path
    import numpy as np
    from plumbline_models.backends import Tuning, open_backend
    from tests.models.backends.tiny_graphs import LIFT_GRAPH
    backend = open_backend("auto", precision="fp32", tuning=Tuning(Path(sys.argv[1]), num_threads=1))
    engine = backend.compile(LIFT_GRAPH)
    lifted = engine.run({"rows": np.ones((2, 4), np.float32)})["lifted"]
    unwanted = {"torch", "onnx", "onnxscript", "openvino_telemetry", "urllib.request"} - {
        name for name, module in sys.modules.items() if module is None}
    print(backend.name, float(lifted.sum()), sorted(unwanted & set(sys.modules)))
"""


def start(cache_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), str(cache_dir)]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=500)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture
def cache_dir(tmp_path: Path, engine_dir: Path, lift_engine: Engine) -> Path:
    """A cache that holds one engine and may be harmed."""
    shutil.copytree(engine_dir / "engines" / lift_engine.info.key, tmp_path / "engines" / lift_engine.info.key)
    return tmp_path


def entry_of(cache_dir: Path) -> Path:
    (entry,) = (path for path in (cache_dir / "engines").iterdir() if path.is_dir())
    return entry


def test_a_warm_start_imports_no_torch_and_tells_nobody(cache_dir: Path, lift_engine: Engine) -> None:
    expected = float(lift_engine.run(ROWS)["lifted"].sum())
    assert finish(start(cache_dir)) == f"openvino {expected} []\n"


def test_a_cached_engine_is_not_built_again(cache_dir: Path, lift_engine: Engine) -> None:
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(cache_dir, num_threads=1))
    engine = backend.compile(unbuildable(LIFT_GRAPH))
    np.testing.assert_array_equal(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"])


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "manifest.json"])
def test_a_broken_engine_is_built_again(
    cache_dir: Path, lift_engine: Engine, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    artefact = entry_of(cache_dir) / name
    whole = artefact.read_bytes()
    artefact.write_bytes(whole[: len(whole) // 2])
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(cache_dir, num_threads=1))
    engine = backend.compile(LIFT_GRAPH)
    np.testing.assert_array_equal(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"])
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert entry_of(cache_dir).name == lift_engine.info.key
    backend.compile(unbuildable(LIFT_GRAPH))


def test_what_openvino_cannot_read_is_built_again_even_if_it_is_whole(
    cache_dir: Path, lift_engine: Engine, reseal: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    entry = entry_of(cache_dir)
    (entry / "graph.xml").write_text("<net/>")
    reseal(entry)
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(cache_dir, num_threads=1))
    engine = backend.compile(LIFT_GRAPH)
    np.testing.assert_array_equal(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"])
    assert "OpenVINO refuses it" in caplog.text


@pytest.fixture
def reseal() -> Callable[[Path], None]:
    """Makes an entry's manifest agree with files that were altered."""

    def reseal_entry(entry: Path) -> None:
        facts = json.loads((entry / "manifest.json").read_text())["key"]
        (entry / "manifest.json").unlink()
        seal(entry, EngineKey(facts))

    return reseal_entry


def test_without_a_place_to_write_engines_run_from_memory(
    tmp_path: Path, lift_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(tmp_path / "file" / "cache", num_threads=1))
    engine = backend.compile(LIFT_GRAPH)
    np.testing.assert_array_equal(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "engines are compiled at every start" in warnings[0]


def test_two_processes_that_start_at_once_both_run(tmp_path: Path, lift_engine: Engine) -> None:
    expected = float(lift_engine.run(ROWS)["lifted"].sum())
    processes = [start(tmp_path), start(tmp_path)]
    said = [finish(process) for process in processes]
    assert [line.split(" [")[0] for line in said] == [f"openvino {expected}"] * 2
    assert entry_of(tmp_path).name == lift_engine.info.key
