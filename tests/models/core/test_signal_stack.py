import json
import signal
import subprocess
import sys

import pytest

from tests.programs import program_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stack is set as Linux does")

MANY_AT_ONCE = """
import faulthandler, os, signal
from plumbline_models.core.signal_stack import use_roomy_signal_stack

faulthandler.enable()
{prepare}
numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *range(signal.SIGRTMIN, signal.SIGRTMIN + 9)]
for number in numbers:
    signal.signal(number, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
for number in numbers:
    os.kill(os.getpid(), number)
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
"""


@pytest.mark.parametrize(
    ("prepare", "status"),
    [
        pytest.param("use_roomy_signal_stack()", 0, id="they have room"),
        pytest.param("", -signal.SIGSEGV, id="on the stack of faulthandler they end the process"),
    ],
)
def test_signals_that_come_at_once(prepare: str, status: int) -> None:
    arguments = [sys.executable, "-c", MANY_AT_ONCE.format(prepare=prepare)]
    ran = subprocess.run(arguments, env=program_environment(), check=False, stderr=subprocess.PIPE)
    assert ran.returncode == status, ran.stderr.decode()


KEPT = """
import ctypes, faulthandler, json
from plumbline_models.backends.openvino.runtime import open_core
from plumbline_models.core.signal_stack import _sigaltstack, _Stack

def seen():
    stack = _Stack()
    assert _sigaltstack(None, ctypes.byref(stack))
    return stack.start, stack.flags, stack.num_bytes

alone = seen()
core = open_core()
print(json.dumps([alone, seen()]))
faulthandler.enable()
set_by_python = seen()
open_core.cache_clear()
other = open_core()
print(json.dumps([set_by_python, seen()]))
del core, other
open_core.cache_clear()
print(json.dumps([set_by_python, seen()]))
"""


def test_openvino_leaves_the_stack_as_it_was() -> None:
    """It would set one of its own, and free it while the thread goes on using it."""
    ran = subprocess.run(
        [sys.executable, "-c", KEPT], env=program_environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    for before, after in map(json.loads, ran.stdout.splitlines()):
        assert before == after
