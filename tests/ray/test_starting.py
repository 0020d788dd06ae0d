"""Before the service is ready: told to stop, it ends soon; what cannot be placed is said; nothing is left."""

import os
import signal
import threading

import pytest

pytestmark = pytest.mark.ray
pause = threading.Event().wait


@pytest.mark.parametrize(
    ("number", "seen"),
    [
        pytest.param(signal.SIGTERM, "raylet", id="SIGTERM while Ray starts"),
        pytest.param(signal.SIGINT, ":Gateway", id="SIGINT while the encoders load"),
    ],
)
def test_a_signal_to_the_group_before_it_is_ready_ends_all_of_it(start, below, number, seen):
    service = start(is_awaited=False)
    while not any(seen in name for name in below(service.process.pid).values()):
        assert service.process.poll() is None
        pause(0.05)
    started = below(service.process.pid)
    os.killpg(service.process.pid, number)
    assert service.process.wait(60) == 0
    assert service.process.stdout.read() == ""
    assert not {pid for pid in started if os.path.exists(f"/proc/{pid}")}  # noqa: PTH110


def test_a_layout_that_cannot_be_scheduled_is_said_instead_of_waited_for(start, tmp_path):
    service = start("replicas: {encoder_gpus: 1000}", is_awaited=False)
    assert service.process.wait(120) == 1
    assert "1000 GPUs" in (tmp_path / "stderr.log").read_text(encoding="utf-8")
