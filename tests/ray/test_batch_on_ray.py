"""`plumbline batch --ray` on two nodes gives what one process gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_serve.machine.ray_token import own_token
from plumbline_serve.offline.outputs import open_scored
from tests.programs import program_environment
from tests.services import encoded, picture

pytestmark = pytest.mark.ray
DRIVER = Path(__file__).with_name("batch_on_two_nodes.py")
NUM_ROWS = 600


def test_two_nodes_score_the_rows_of_one_table(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(picture(number), "JPEG"))
    lines = [{"image": f"{n % 9}.jpg", "text": f"a red circle {n % 7}", "seed": n} for n in range(NUM_ROWS)]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    settings = {"BACKEND": "torch", "PRECISION": "fp32", "SCORERS": '{"clipscore": {}}'}
    environment = program_environment(
        RAY_USAGE_STATS_ENABLED="0",
        PLUMBLINE_REPLICAS__ENCODER_CPUS="0.75",
        **{f"PLUMBLINE_{name}": value for name, value in settings.items()},
        **own_token(tmp_path),
    )
    command = [sys.executable, str(DRIVER), str(table), str(tmp_path / "ray.parquet")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith('{"status"')))
    assert found == {"status": 1, "nodes": [0, 1]}, ran.stderr[-4000:]
    here = [sys.executable, "-m", "plumbline_serve.cli", "batch", str(table), "-o", str(tmp_path / "here.parquet")]
    here.append("--set")
    assert subprocess.run(here, capture_output=True, env=environment, check=False).returncode == 1
    by_ray, by_one = (list(open_scored(tmp_path / f"{name}.parquet").lines()) for name in ("ray", "here"))
    assert [line["row"] for line in by_ray] == [n for n in range(NUM_ROWS) if n % 9 != 8]
    for first, second in zip(by_ray, by_one, strict=True):
        assert first["clipscore"] == pytest.approx(second["clipscore"], abs=1e-6)  # batches are made as inputs arrive
        assert {**first, "clipscore": 0, "clipscore.cosine": 0} == {**second, "clipscore": 0, "clipscore.cosine": 0}
    failed = [(tmp_path / f"{name}.failed.jsonl").read_bytes() for name in ("ray", "here")]
    assert failed[0] == failed[1]
    [first], [second] = (json.loads((tmp_path / f"{name}.sets.json").read_text())["sets"] for name in ("ray", "here"))
    assert first["n"] == NUM_ROWS - NUM_ROWS // 9
    assert first["vendi"] == pytest.approx(second["vendi"], rel=1e-5)
    assert first["duplicates"] == second["duplicates"]
