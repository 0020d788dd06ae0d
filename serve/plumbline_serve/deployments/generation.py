"""Which configuration a process runs: while another one replaces it, processes of both are there."""

import hashlib
import json
from dataclasses import dataclass

from plumbline_serve.settings import Settings

_DECIDING = {"backend", "precision", "engines"}
"""Settings that decide what every encoder computes; a scorer's own section decides the rest."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A configuration as it was deployed."""

    number: int
    """The larger one is the newer one: nanoseconds since 1970 when it was deployed."""
    settings: Settings
    layout: int = 0
    """How often encoders have moved between groups before: each layout has deployments of its own."""

    def deployment(self, group: str) -> str:
        """The name of a group's deployment.

        Args:
            group: Its name, in which there is no full stop.
        """
        return f"{group}.{self.layout}" if self.layout else group

    def digest(self, group: str) -> str:
        """Names all that decides what a group's encoders compute; what has the same name can take each other's calls.

        Args:
            group: Its name.
        """
        settings = self.settings
        scorers = {name: (settings.scorers or {}).get(name) for name in settings.encoder_groups[group].scorers}
        deciding = {**settings.model_dump(mode="json", include=_DECIDING), "scorers": scorers}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()
