"""A run holds a shard of rows at a time, however many rows there are."""

import gc
import json
import tracemalloc
from pathlib import Path

from plumbline_serve.offline.batch import Job, run
from plumbline_serve.offline.outputs import Output
from plumbline_serve.offline.progress import unshown
from plumbline_serve.offline.readers import open_input
from plumbline_serve.offline.rows import RowReading
from tests.serve.offline.samples import SizeRunner


def peak_bytes(folder: Path, num_rows: int) -> int:
    folder.mkdir()
    (folder / "a.png").write_bytes(bytes(2000))
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"image": "a.png", "text": f"{n} " * 20}) + "\n" for n in range(num_rows)))
    job = Job(Output.parse(folder / "out.parquet"), {}, shard_rows=100)
    gc.collect()
    tracemalloc.start()
    with job.begun():
        run(job, open_input(path, RowReading(folder)), SizeRunner(), unshown)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_many_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    peak_bytes(tmp_path / "first", 200)  # what is imported and kept once
    few, many = peak_bytes(tmp_path / "few", 300), peak_bytes(tmp_path / "many", 2000)
    assert many < 1.2 * few  # all rows at once would take six times as much
