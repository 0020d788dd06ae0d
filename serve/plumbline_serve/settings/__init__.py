"""The configuration: what it may hold, section by section, and where it is read from."""

from plumbline_serve.settings.configuration import (
    PATHS,
    WHOLE_GROUP,
    DriftSettings,
    LicenceSettings,
    Settings,
    load_settings,
    settings_of,
)
from plumbline_serve.settings.limits import ImageSettings, Limits
from plumbline_serve.settings.replicas import BatchSettings, CacheSettings, EngineSettings, ReplicaSettings

__all__ = [
    "PATHS",
    "WHOLE_GROUP",
    "BatchSettings",
    "CacheSettings",
    "DriftSettings",
    "EngineSettings",
    "ImageSettings",
    "LicenceSettings",
    "Limits",
    "ReplicaSettings",
    "Settings",
    "load_settings",
    "settings_of",
]
