"""How often Ray's controller looks."""

from types import SimpleNamespace

import pytest
from ray.serve._private import controller as ray_controller
from ray.serve._private.application_state import ApplicationStateManager
from ray.serve._private.proxy_state import ProxyStateManager
from ray.serve.schema import ApplicationStatus

from plumbline_serve.deployments.lean_controller import CHANGING_S, make_lean

USUAL_S = 0.5
RUNNING, DEPLOYING, UNHEALTHY = ApplicationStatus.RUNNING, ApplicationStatus.DEPLOYING, ApplicationStatus.UNHEALTHY


@pytest.mark.parametrize(
    ("statuses", "pause_s"),
    [
        pytest.param([], CHANGING_S, id="none yet"),
        pytest.param([DEPLOYING], CHANGING_S, id="one starts"),
        pytest.param([RUNNING, DEPLOYING], CHANGING_S, id="one of two starts"),
        pytest.param([RUNNING], USUAL_S, id="one runs"),
        pytest.param([UNHEALTHY], USUAL_S, id="one is ill"),
    ],
)
def test_the_controller_looks_often_while_an_application_changes(
    statuses: list[ApplicationStatus], pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApplicationStateManager, "update", lambda _: None)
    monkeypatch.setattr(ProxyStateManager, "_start_fallback_proxy_if_needed", None)
    monkeypatch.setattr(ray_controller, "CONTROL_LOOP_INTERVAL_S", USUAL_S)
    make_lean()
    applications = ApplicationStateManager.__new__(ApplicationStateManager)
    infos = [SimpleNamespace(status=status) for status in statuses]
    monkeypatch.setattr(applications, "list_app_statuses", lambda: dict(enumerate(infos)))
    applications.update()
    assert vars(ray_controller)["CONTROL_LOOP_INTERVAL_S"] == pause_s


def test_rays_loop_reads_its_pause_each_time_from_where_it_is_set() -> None:
    loop = ray_controller.ServeController.run_control_loop.__code__
    assert "CONTROL_LOOP_INTERVAL_S" in loop.co_names
    assert "application_state_manager" in ray_controller.ServeController.run_control_loop_step.__code__.co_names
