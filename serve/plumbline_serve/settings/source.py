"""Where a running service's settings come from, so that they can be read anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings import Settings, load_settings

FIXED = ("host", "port", "grpc_port", "tls", "limits", "edge", "log_format")
"""Settings of HAProxy and of Ray's servers, which are told of them when they start."""


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A file, and what wins over it."""

    path: Path | None
    """None: as for `load_settings`."""
    overrides: Mapping[str, Any]

    def read(self) -> Settings:
        """The settings as they are now.

        Raises:
            ConfigError: As `load_settings` raises it.
        """
        return load_settings(self.path, dict(self.overrides))

    def read_anew(self, running: Settings) -> Settings:
        """The settings as they are now, for a service that runs.

        Args:
            running: What it runs with.

        Raises:
            ConfigError: They are not valid, or what has changed takes a restart.
        """
        settings = self.read()
        if changed := [name for name in FIXED if getattr(settings, name) != getattr(running, name)]:
            raise ConfigError(f"A change of {' and '.join(changed)} takes a restart.")
        return settings
