"""Deploys the application on this machine, and again while it runs: another configuration takes the place of one.

Ray starts the replicas of the new application beside those of the old one, which stop as the new ones get ready.
"""

import logging
import os
import threading
import time
from contextlib import suppress

import ray
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.api import RunTarget
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from plumbline_models.core.errors import SetupError
from plumbline_serve.app import APP_NAME, application
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.launch.ray_environment import shortage
from plumbline_serve.logs import set_level
from plumbline_serve.machine.processes import find
from plumbline_serve.settings import Settings
from plumbline_serve.settings.source import ConfigSource

log = logging.getLogger(__name__)
POLL_S = 0.25
ROOM_S = 15.0
"""How long room is waited for: replicas that stop, as those of a configuration that was refused, still have theirs."""


class Running:
    """The configuration that a service runs.

    Args:
        settings: What it was started with.
        source: Where they come from.
    """

    def __init__(self, settings: Settings, source: ConfigSource) -> None:
        self.settings = settings
        self._source = source
        self._changing = threading.Lock()

    def change_aside(self) -> None:
        """Read the configuration anew, on a thread of its own: signals are heard meanwhile."""
        threading.Thread(target=self._change, name="change", daemon=True).start()

    def _change(self) -> None:
        """Run the service with its settings as they are now; where that fails, it goes on with those of before."""
        with self._changing:
            try:
                settings = self._source.read_anew(self.settings)
                if settings == self.settings:
                    log.warning("the configuration is the same as before")
                    return
                make_scorers(settings)
                _replace(settings, before=self.settings)
            except (SetupError, RuntimeError) as error:
                said = error.detail if isinstance(error, SetupError) else str(error)
                log.error("the new configuration is refused, and the one before goes on: %s", said)
            else:
                self.settings = settings
                set_level(settings.log_level)
                log.warning("the new configuration answers callers")


def deploy(settings: Settings) -> None:
    """Have Ray start the application, in the place of one that runs; it goes on by itself."""
    target = RunTarget(application(settings, command=find(os.getpid())), APP_NAME, "/")
    ray_serve.run_many([target], wait_for_applications_running=False)


def await_application() -> None:
    """Wait until every replica is ready.

    Raises:
        RuntimeError: Ray gave the application up.
    """
    while (application := ray_serve.status().applications[APP_NAME]).status != ApplicationStatus.RUNNING:
        if application.status in {ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.DELETING}:
            messages = [application.message, *(each.message for each in application.deployments.values())]
            raise RuntimeError("\n".join(message for message in messages if message))
        time.sleep(POLL_S)


def _replace(settings: Settings, *, before: Settings) -> None:
    """Deploy the new configuration; the one before again, where the new one does not get ready.

    Raises:
        RuntimeError: It does not, or there is no room for both.
    """
    _await_room(settings)
    try:
        deploy(settings)
        await_application()
    except (RuntimeError, RayError, RayServeException) as error:
        deploy(before)
        with suppress(RuntimeError):  # why the new one was refused is to be told
            await_application()
        raise RuntimeError(str(error)) from error


def _await_room(settings: Settings) -> None:
    """Wait until there is room for a configuration beside what runs.

    Raises:
        RuntimeError: There is none.
    """
    until = time.monotonic() + ROOM_S
    while missing := shortage(settings, ray.available_resources()):  # type: ignore[no-untyped-call]
        if time.monotonic() > until:
            raise RuntimeError(f"There is no room beside what runs. {missing}")
        time.sleep(POLL_S)
