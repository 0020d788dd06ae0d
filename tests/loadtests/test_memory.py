"""What the benchmarks say of memory, held against a process whose memory is known."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loadtests.service.memory import MIB, Memory

BLOCK_MIB = 64
PROGRAM = f"""
import sys
for _ in sys.stdin:
    block = bytearray(b"x") * {BLOCK_MIB * MIB}
    del block
    print("done", flush=True)
"""


@contextmanager
def begun(program: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has done its work, and ends with the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print("begin", file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"
        yield process
        process.stdin.close()


def test_a_peak_is_seen_after_the_memory_is_given_back_and_forgotten_when_told():
    with begun(PROGRAM) as process:
        memory = Memory(process.pid)
        assert memory.peak_mib() - memory.held_mib() > BLOCK_MIB * 0.9
        memory.start_peak()
        assert memory.peak_mib() - memory.held_mib() < BLOCK_MIB * 0.5


def test_memory_counts_what_a_process_starts():
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PROGRAM!r}])"
    with begun(program) as process:
        assert Memory(process.pid).peak_mib() > BLOCK_MIB
