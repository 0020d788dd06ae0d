"""Deploys the application on this machine, and again while it runs: another configuration takes the place of one.

Ray starts the replicas of the new application beside those of the old one, which stop as the new ones get ready. Where
encoders move between groups, all groups of the old one go on beside those of the new one until gateways have changed.
"""

import itertools
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
from plumbline_serve.configured_scorers import encoders_by_group, make_scorers
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.launch.ray_environment import shortage
from plumbline_serve.logs import set_level
from plumbline_serve.machine.processes import find
from plumbline_serve.settings import Settings
from plumbline_serve.settings.source import ConfigSource

log = logging.getLogger(__name__)
POLL_S = 0.1
ROOM_S = 15.0
"""How long room is waited for: replicas that stop, as those of a configuration that was refused, still have theirs."""


class Running:
    """The configuration that a service runs.

    Args:
        generation: What it was started with.
        source: Where its settings come from.
    """

    def __init__(self, generation: Generation, source: ConfigSource) -> None:
        self._generation = generation
        self._source = source
        self._layouts = itertools.count(generation.layout + 1)
        self._changing = threading.Lock()

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return self._generation.settings

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
                if move_encoders(self.settings, settings):
                    self._replace_beside(settings)
                else:
                    self._replace(settings)
            except (SetupError, RuntimeError) as error:
                said = error.detail if isinstance(error, SetupError) else str(error)
                log.error("the new configuration is refused, and the one before goes on: %s", said)
            else:
                set_level(settings.log_level)
                log.warning("the new configuration answers callers")

    def _replace(self, settings: Settings) -> None:
        """Have each group take its own place, and the gateways theirs; where one does not get ready, back again.

        Raises:
            RuntimeError: One does not, or there is no room for both.
        """
        before = self._generation
        _await_room(settings)
        self._generation = Generation(time.time_ns(), settings, before.layout)
        try:
            deploy(self._generation)
            await_application()
        except (RuntimeError, RayError, RayServeException) as error:
            # Anew, since gateways follow newer ones alone.
            self._generation = Generation(time.time_ns(), before.settings, before.layout)
            _go_back(self._generation)
            raise RuntimeError(str(error)) from error

    def _replace_beside(self, settings: Settings) -> None:
        """Have other groups take the place of those that run, which go on until no gateway calls them any more.

        Ray replaces groups one by one, and stops at once what there is no group for: in between an encoder that moves
        would be in none.

        Raises:
            RuntimeError: One does not get ready, or there is no room for both.
        """
        before, after = self._generation, Generation(time.time_ns(), settings, next(self._layouts))
        _await_room(settings)
        try:
            deploy(after, beside=before)
            await_application()
        except (RuntimeError, RayError, RayServeException) as error:
            _go_back(before)  # its groups have not changed
            raise RuntimeError(str(error)) from error
        self._generation = after
        with suppress(RayError, RayServeException):  # what is left of the one before goes with the next
            deploy(after)


def move_encoders(before: Settings, after: Settings) -> bool:
    """Whether encoders are in another group than before, or a group is given up.

    Args:
        before: What runs.
        after: What is to run.

    Raises:
        SetupError: What is to run is not valid.
    """
    places, new_places = _places(before), _places(after)
    has_moved = any(place in new_places and new_places[place] != group for place, group in places.items())
    return has_moved or not before.encoder_groups.keys() <= after.encoder_groups.keys()


def _places(settings: Settings) -> dict[tuple[str, str], str]:
    """The group of each scorer and of each encoder, by name and by key; there is none in the fused layout."""
    scorers = make_scorers(settings)
    if not settings.encoder_groups:
        return {}
    named = {("scorer", each): name for name, group in settings.encoder_groups.items() for each in group.scorers}
    held = encoders_by_group(settings, scorers).items()
    return named | {("encoder", each.key): name for name, encoders in held for each in encoders}


def deploy(generation: Generation, *, beside: Generation | None = None) -> None:
    """Have Ray start the application, in the place of one that runs; it goes on by itself.

    Args:
        generation: What is configured.
        beside: As `application` has it.
    """
    target = RunTarget(application(generation, command=find(os.getpid()), beside=beside), APP_NAME, "/")
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


def _go_back(generation: Generation) -> None:
    deploy(generation)
    with suppress(RuntimeError):  # why the other one was refused is to be told
        await_application()


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
