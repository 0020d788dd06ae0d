"""Processes as the kernel tells of them."""

import os
import signal
import subprocess
import sys

from plumbline_serve.machine.processes import command_line, descendants, find

NESTED = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"


def test_children_of_children_are_found_and_told_from_those_that_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NESTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        found = descendants(os.getpid())
        (child,) = {pid for pid, process in found.items() if process.parent == parent.pid}
        assert "input()" in command_line(child)
        parent.send_signal(signal.SIGSTOP)
        os.waitpid(parent.pid, os.WUNTRACED)
        stopped = find(parent.pid)
        assert stopped is not None
        assert stopped.state == "T"
        os.killpg(parent.pid, signal.SIGKILL)
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        ended = find(parent.pid)
        assert ended is not None
        assert ended.has_ended
        assert ended.started == found[parent.pid].started
    assert find(parent.pid) is None
    assert command_line(parent.pid) == ""
