"""What the benchmarks say of memory, held against a process whose memory is known."""

import subprocess
import sys

from loadtests.service.memory import MIB, Memory

BLOCK_MIB = 64
PROGRAM = f"""
import sys
for _ in sys.stdin:
    block = bytearray(b"x") * {BLOCK_MIB * MIB}
    del block
    print("done", flush=True)
"""


def test_a_peak_is_seen_after_the_memory_is_given_back_and_forgotten_when_told():
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        print("begin", file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"
        memory = Memory(process.pid)
        assert memory.peak_mib() - memory.held_mib() > BLOCK_MIB * 0.9
        memory.start_peak()
        assert memory.peak_mib() - memory.held_mib() < BLOCK_MIB * 0.5
        process.stdin.close()


def test_memory_counts_what_a_process_starts():
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PROGRAM!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        print("begin", file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"
        assert Memory(process.pid).peak_mib() > BLOCK_MIB
        process.stdin.close()
