"""A run writes every row once: also one that goes on where another was killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError
from plumbline_serve.offline.batch import MAX_BROKEN_ROWS, Job, Outcome, run
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.outputs import Output, open_scored
from plumbline_serve.offline.progress import unshown
from plumbline_serve.offline.readers import Reader, open_input
from plumbline_serve.offline.rows import Row, RowReading
from plumbline_serve.offline.runners.chunks import Document
from plumbline_serve.offline.shards import shards_of
from tests.programs import program_environment
from tests.serve.offline.samples import FACTS, SizeRunner

NUM_ROWS = 20


class Steps:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Rows of which every seventh has no image; row 5 has a scorer that fails."""
    for number in range(NUM_ROWS):
        if number % 7:
            (tmp_path / f"{number}.png").write_bytes(b"x" * (number + 1))
    path = tmp_path / "rows.jsonl"
    lines = [{"image": f"{n}.png", "text": "unlucky" if n == 5 else f"row {n}", "seed": n} for n in range(NUM_ROWS)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def go(source: Path, output: Path, runner: SizeRunner | None = None, **options: object) -> Outcome:

    job = Job(Output.parse(output), {"input": str(source)}, **{"shard_rows": 4, **options})  # type: ignore[arg-type]
    with job.begun():
        return run(job, opened(source), runner or SizeRunner(), unshown)


def opened(source: Path) -> Reader:
    return open_input(source, RowReading(source.parent))


def numbers(output: Path) -> list[int]:
    return [line["row"] for line in open_scored(output).lines()]


def failed_numbers(output: Path) -> list[int]:
    return [json.loads(line)["row"] for line in Output.parse(output).failures.read_text().splitlines()]


@pytest.mark.parametrize("name", ["out", "out.parquet", "out.jsonl", "out.csv"])
def test_rows_that_fail_stand_beside_the_output_with_their_problem(source: Path, tmp_path: Path, name: str) -> None:
    outcome = go(source, tmp_path / name)
    assert outcome == Outcome(NUM_ROWS, num_failed=4)
    assert numbers(tmp_path / name) == [n for n in range(NUM_ROWS) if n % 7]
    assert failed_numbers(tmp_path / name) == [0, 5, 7, 14]
    lines = [json.loads(line) for line in Output.parse(tmp_path / name).failures.read_text().splitlines()]
    assert (lines[0]["scorer"], lines[0]["problem"]["code"]) == (None, "image_undecodable")
    assert (lines[1]["scorer"], lines[1]["problem"]["code"]) == ("match", "internal")


def test_a_run_that_ended_early_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    text = source.read_text()
    source.write_text(text.replace('"row 17"', '"crash"'))
    with pytest.raises(PlumblineError):
        go(source, tmp_path / "out.parquet")
    source.write_text(text)
    runner = SizeRunner()
    assert go(source, tmp_path / "out.parquet", runner, resumes=True) == Outcome(NUM_ROWS, num_failed=4)
    assert runner.num_scored < NUM_ROWS - 12
    go(source, tmp_path / "whole.parquet")
    assert list(open_scored(tmp_path / "out.parquet").lines()) == list(open_scored(tmp_path / "whole.parquet").lines())
    assert failed_numbers(tmp_path / "out.parquet") == failed_numbers(tmp_path / "whole.parquet")


@pytest.fixture
def long_source(tmp_path: Path) -> Path:
    """As many rows as engines may fail on, and twelve before; every seventh has no image."""
    (tmp_path / "one.png").write_bytes(b"x")
    path = tmp_path / "long.jsonl"
    names = ["one.png" if number % 7 else "none.png" for number in range(12 + 2 * MAX_BROKEN_ROWS)]
    path.write_text("".join(f"{json.dumps({'image': name, 'text': 'a'})}\n" for name in names), encoding="utf-8")
    return path


def test_a_run_whose_engines_fail_on_every_row_ends_and_goes_on_with_others(long_source: Path, tmp_path: Path) -> None:
    runner = SizeRunner(broken_from=12)
    with pytest.raises(EngineError, match=r"every row from 12 to .*--resume"):
        go(long_source, tmp_path / "out", runner)
    assert runner.num_scored <= 12 + MAX_BROKEN_ROWS + 3  # a request's rows
    assert shards_of(tmp_path / "out")[-1].end == 12  # no row stands as failed that only the engines failed on
    whole = go(long_source, tmp_path / "out", resumes=True)
    go(long_source, tmp_path / "whole")
    assert whole.num_rows == 12 + 2 * MAX_BROKEN_ROWS
    assert list(open_scored(tmp_path / "out").lines()) == list(open_scored(tmp_path / "whole").lines())
    assert failed_numbers(tmp_path / "out") == failed_numbers(tmp_path / "whole")


def test_engines_that_fail_on_some_rows_do_not_end_a_run(long_source: Path, tmp_path: Path) -> None:
    class Weak(SizeRunner):
        def _result(self, row: Row) -> Document:
            self.broken_from = 0 if row.number % 100 else None
            return super()._result(row)

    outcome = go(long_source, tmp_path / "out", Weak())
    assert outcome.num_rows == 12 + 2 * MAX_BROKEN_ROWS
    assert numbers(tmp_path / "out") == [100, 200, 300]


def test_shards_are_written_now_and_then_though_they_are_not_full(source: Path, tmp_path: Path) -> None:
    go(source, tmp_path / "out", clock=Steps(), shard_rows=1000)
    assert len(shards_of(tmp_path / "out")) == 1
    for path in (tmp_path / "out").iterdir():
        path.unlink()

    class Minutes(Steps):
        def __call__(self) -> float:
            return 60 * super().__call__()

    go(source, tmp_path / "out", clock=Minutes(), shard_rows=1000)
    assert len(shards_of(tmp_path / "out")) == NUM_ROWS


def test_nothing_that_is_there_is_overwritten(source: Path, tmp_path: Path) -> None:
    go(source, tmp_path / "out.parquet")
    go(source, tmp_path / "out")
    for name, said in (("out.parquet", "there already"), ("out", "--resume")):
        with pytest.raises(InvalidFieldError, match=said):
            go(source, tmp_path / name)
    for name in ("out.csv", "out.jsonl"):
        with pytest.raises(InvalidFieldError, match=r"out.failed.jsonl is that of .*out.parquet"):
            go(source, tmp_path / name)


def test_another_run_is_not_gone_on_with(source: Path, tmp_path: Path) -> None:
    go(source, tmp_path / "out")
    with pytest.raises(InvalidFieldError, match="another input"):
        go(source.with_name("other.jsonl"), tmp_path / "out", resumes=True)
    other = FACTS.scorers["size"].model_copy(update={"weights": {"size/image": "11"}})
    facts = RunFacts(scorers={**FACTS.scorers, "size": other})
    with pytest.raises(InvalidFieldError, match="other weights or conventions of size"):
        go(source, tmp_path / "out", SizeRunner(facts), resumes=True)
    with pytest.raises(InvalidFieldError, match="had the scorers size, match"):
        go(source, tmp_path / "out", SizeRunner(RunFacts(scorers={"size": FACTS.scorers["size"]})), resumes=True)


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_whole_output_is_that_of_its_own_run(source: Path, tmp_path: Path, name: str) -> None:
    go(source, tmp_path / name)
    output = Output.parse(tmp_path / name)
    output.parts.mkdir()
    (output.parts / "run.json").write_text("half of what a kill left")
    assert Job(output, {"input": str(source)}, resumes=True).is_done
    assert not output.parts.exists()
    with pytest.raises(InvalidFieldError, match="that of another input, scorers"):
        _ = Job(output, {"input": "other", "scorers": []}, resumes=True).is_done


def test_scores_of_two_precisions_are_not_put_together(source: Path, tmp_path: Path) -> None:
    go(source, tmp_path / "out")
    other = FACTS.scorers["size"].model_copy(update={"precision": "bf16", "backend": "openvino"})
    with pytest.raises(InvalidFieldError, match="had size in  on "):
        go(source, tmp_path / "out", SizeRunner(RunFacts(scorers={**FACTS.scorers, "size": other})), resumes=True)


def test_an_input_that_has_changed_is_noticed(source: Path, tmp_path: Path) -> None:
    go(source, tmp_path / "out")
    text = source.read_text()
    source.write_text('{"image": "new.png"}\n' + text)
    with pytest.raises(InvalidFieldError, match="its row 19 is another"):
        go(source, tmp_path / "out", resumes=True)


def test_two_processes_do_not_write_one_output(source: Path, tmp_path: Path) -> None:
    first, second = (Job(Output.parse(tmp_path / "out"), {}) for _ in range(2))
    with first.begun(), pytest.raises(InvalidFieldError, match="Another process"), second.begun():
        pass


KILLED = """
import sys
from pathlib import Path
from tests.serve.offline.test_batch import go
from tests.serve.offline.samples import SizeRunner

class Slow(SizeRunner):
    def _result(self, row):
        if row.number == 9:
            print("now", flush=True)
            sys.stdin.read()
        return super()._result(row)

go(Path(sys.argv[1]), Path(sys.argv[2]), Slow())
"""


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_a_run_that_is_killed_loses_and_repeats_nothing(source: Path, tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / name)]
    root = str(Path(__file__).parents[3])
    environment = program_environment()
    environment["PYTHONPATH"] = os.pathsep.join([root, environment["PYTHONPATH"]])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = shards_of(Output.parse(tmp_path / name).parts)
    assert [(shard.first, shard.end) for shard in done] == [(0, 4), (4, 8)]
    runner = SizeRunner()
    assert go(source, tmp_path / name, runner, resumes=True) == Outcome(NUM_ROWS, num_failed=4)
    assert runner.num_scored == NUM_ROWS - 8 - 1  # one of them has no image
    assert numbers(tmp_path / name) == [n for n in range(NUM_ROWS) if n % 7]
    assert failed_numbers(tmp_path / name) == [0, 5, 7, 14]


def test_a_shard_that_was_being_written_is_written_again(source: Path, tmp_path: Path) -> None:
    """What a kill at the worst moment leaves: failures without their shard, and a draft of it."""
    go(source, tmp_path / "out")
    last = shards_of(tmp_path / "out")[-1]
    last.path.with_name(f".{last.path.name}.draft").write_bytes(last.path.read_bytes()[:100])
    last.failures.write_text('{"row": 16, "half')
    last.path.unlink()
    assert go(source, tmp_path / "out", resumes=True) == Outcome(NUM_ROWS, num_failed=4)
    assert numbers(tmp_path / "out") == [n for n in range(NUM_ROWS) if n % 7]
