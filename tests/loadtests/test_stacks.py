"""Sampled stacks by stage, in the format that py-spy writes; and a process sampled for real."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.service.stacks import READING, SERVER, STAGE_OF, count, sampling, stage_of
from plumbline_serve import batching

SERVE = Path(batching.__file__).parents[1]
LOOP = "thread (7): AsyncIO Thread: default"
RUN = "_run (asyncio/events.py:80)"


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        pytest.param([LOOP, RUN], SERVER, id="nothing of ours"),
        pytest.param(
            [LOOP, RUN, "read (plumbline_serve/edge/body.py:40)", "write (python_multipart/multipart.py:9)"],
            READING,
            id="a library works for its caller",
        ),
        pytest.param(
            [
                LOOP,
                "score (plumbline_serve/requests/pipeline.py:60)",
                "cases (plumbline_serve/requests/validation.py:40)",
            ],
            "validation",
            id="the innermost of ours counts",
        ),
        pytest.param(
            ["thread (8): encode image_0", "Batcher._encode (plumbline_serve/batching/batcher.py:222)"],
            "image engine",
            id="an engine's thread, whatever it runs through",
        ),
        pytest.param(
            [
                "thread (9): decode_1",
                "Image.preprocess (plumbline_serve/requests/images.py:47)",
                "ClipImageEncoder.preprocess (x.py:1)",
            ],
            "preprocess and tokenise",
            id="fitting on a decoder's thread",
        ),
    ],
)
def test_a_stack_belongs_to_a_stage(frames, stage):
    assert stage_of(frames) == stage


def test_samples_are_counted_by_thread_and_stage():
    raw = f"{LOOP};{RUN} 3\n{LOOP};{RUN};a b (x.py:1) 2\nthread (8): encode text_0;f (y.py:2) 5\nno thread here 4\n"
    assert count(raw) == {7: {SERVER: 5}, 8: {"text engine": 5}}


def test_the_files_that_stages_are_told_by_exist():
    """A file that is renamed would fall to another stage without a word."""
    parts = [part for part in STAGE_OF if part.startswith("plumbline_serve/") and part != "plumbline_serve/"]
    assert parts
    for part in parts:
        place = SERVE.parent / part
        assert place.is_dir() or place.with_suffix(".py").is_file(), part


def test_a_running_process_is_sampled():
    program = "print('up', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            with sampling(process.pid) as samples:
                cpu_before = _cpu_ticks(process.pid)
                while _cpu_ticks(process.pid) - cpu_before < 50:
                    pass
        except RuntimeError as error:
            pytest.skip(f"needs SYS_PTRACE: {error}")
        finally:
            process.kill()
    assert set(samples) == {process.pid}
    assert samples[process.pid][SERVER] > 0


def _cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11])
