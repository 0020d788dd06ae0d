"""What starting says, and what it starts."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
UNASKED = {"monitor.py", "dashboard.py", "ray::ProxyActor", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE"}


def test_a_layout_that_cannot_be_scheduled_is_said_instead_of_waited_for(start, tmp_path):
    service = start("replicas: {encoder_gpus: 1000}", is_awaited=False)
    assert service.process.wait(300) == 1
    assert "1 of 1000 each" in (tmp_path / "stderr.log").read_text(encoding="utf-8")


def test_of_ray_runs_what_the_service_asks_for_alone(service, below):
    words = [word for line in below(service.process.pid).values() for word in line.split()]
    programs = {Path(word).name for word in words}
    assert {"log_monitor.py", "ray::HAProxyManager"} <= programs
    assert not programs & UNASKED


def test_each_encoder_is_told_of_as_it_gets_ready(service):
    said = service.log.read_text(encoding="utf-8")
    assert all(f"{number} of 6 encoders ready" in said for number in range(1, 7)), said


def test_no_process_loads_torch_for_the_embedded_networks_and_none_pandas_for_ray(service, below):
    mapped = [Path(f"/proc/{pid}/maps").read_text(encoding="utf-8") for pid in below(service.process.pid)]
    assert any("libopenvino" in each for each in mapped)
    assert not any("libtorch" in each for each in mapped)
    assert not any("/pandas/" in each for each in mapped)
