"""The Serve controller of a service that has a machine to itself."""

import functools
from collections.abc import Callable
from typing import Any

from ray.serve._private import controller as ray_controller
from ray.serve._private.application_state import ApplicationStateManager
from ray.serve._private.proxy_state import ProxyStateManager
from ray.serve.schema import ApplicationStatus

CHANGING_S = 0.05
"""Between two looks of the controller while an application starts or changes."""
_CHANGING = frozenset({ApplicationStatus.NOT_STARTED, ApplicationStatus.DEPLOYING, ApplicationStatus.DELETING})


def make_lean() -> None:
    """Called by Ray in its controller's process, each time that one starts, before the controller makes its proxies.

    Beside HAProxy Ray runs a Python proxy, for callers who come while no replica is up. On one machine HAProxy answers
    those by itself (`haproxy.rewriting`) and leads nobody there. It took 2 of the 14 s of CPU of a
    warm start, and 210 MiB.

    The controller takes one step of a start at each look. There are about six, and half a second between two looks.
    """
    ProxyStateManager._start_fallback_proxy_if_needed = _start_none  # type: ignore[method-assign]  # noqa: SLF001 - Ray has no option for it
    _look_often_while_changing(ray_controller)


def _start_none(self: ProxyStateManager, node_id: str, node_ip_address: str, node_instance_id: str) -> None:
    del self, node_id, node_ip_address, node_instance_id


def _look_often_while_changing(controller: Any) -> None:
    """Ray has one pause between two looks for all times: set it at each.

    Args:
        controller: The module that reads it.
    """
    usual_s = controller.CONTROL_LOOP_INTERVAL_S
    usual_update: Callable[..., None] = ApplicationStateManager.update

    @functools.wraps(usual_update)
    def update(self: ApplicationStateManager, *arguments: Any, **options: Any) -> None:
        usual_update(self, *arguments, **options)
        controller.CONTROL_LOOP_INTERVAL_S = min(CHANGING_S, usual_s) if _is_changing(self) else usual_s

    ApplicationStateManager.update = update  # type: ignore[method-assign]


def _is_changing(applications: ApplicationStateManager) -> bool:
    """Whether an application starts or changes, or the first one is still to come."""
    found = applications.list_app_statuses().values()
    return not found or any(application.status in _CHANGING for application in found)
