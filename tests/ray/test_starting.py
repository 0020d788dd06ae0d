"""What cannot be placed on this machine is said at start."""

import pytest

pytestmark = pytest.mark.ray


def test_a_layout_that_cannot_be_scheduled_is_said_instead_of_waited_for(start, tmp_path):
    service = start("replicas: {encoder_gpus: 1000}", is_awaited=False)
    assert service.process.wait(300) == 1
    assert "1000 GPUs" in (tmp_path / "stderr.log").read_text(encoding="utf-8")
