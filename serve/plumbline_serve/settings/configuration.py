"""The configuration: one frozen object, read once, passed down as values.

Sources, strongest first: arguments, `PLUMBLINE_…` variables (`PLUMBLINE_LIMITS__MAX_ITEMS=64`), the YAML file,
the defaults of the classes. No other module reads the environment. `make docs` makes docs/settings.md of them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.licences import LicenceClass
from plumbline_models.core.sections import explain
from plumbline_models.scorers import SCORERS, anchor_sections
from plumbline_models.weights.paths import anchored
from plumbline_serve.logs import LogLevel
from plumbline_serve.settings.access import AuthSettings, EdgeSettings, PrivacySettings, Section, TlsSettings
from plumbline_serve.settings.environment_names import CONFIG_VARIABLE, check_names, meant
from plumbline_serve.settings.groups import GroupName, GroupSettings, faults
from plumbline_serve.settings.limits import ImageSettings, Limits
from plumbline_serve.settings.presets import PREFIX, preset_values
from plumbline_serve.settings.replicas import BatchSettings, CacheSettings, EngineSettings, ReplicaSettings
from plumbline_serve.settings.store import DEFAULT_STORE, StoreUrl, anchored_store
from plumbline_serve.settings.tracing import TracingSettings
from plumbline_serve.settings.unique_yaml import load_yaml
from plumbline_serve.settings.urls import UrlSettings

WHOLE_GROUP = "encoders"
"""The group of all encoders, where none is configured."""
PATHS = (
    ("cache_dir", None),
    *(("engines", name) for name in ("dir", "calibration_dir")),
    ("auth", "keys_file"),
    *(("tls", name) for name in ("cert", "key", "client_ca")),
    ("urls", "ca_file"),
)
"""Settings that name files or folders; scorers say of their own options which do."""


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path} is in a home folder, and there is none here") from error


HomePath = Annotated[Path, AfterValidator(_at_home), Field(validate_default=True)]


class DriftSettings(Section):
    """How scores given are watched."""

    window_s: float = Field(default=3600.0, ge=6, le=30 * 86400)
    """Seconds of scores that are held against a reference. A sixth of them is dropped at a time."""
    images: bool = True
    """Whether brightness, edges and entropy of decoded images are counted beside scores: about 0.2 ms per image."""


class LicenceSettings(Section):
    """Which weights may be used."""

    forbid: tuple[LicenceClass, ...] = ()
    """Classes of licences whose weights are refused at start: `non-commercial` (research licences too), `restricted`
    (terms of use), `copyleft`, `permissive`, `unknown`. `GET /v1/models` shows the class of each."""


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        env_prefix="PLUMBLINE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,
    )

    backend: Literal["auto", "tensorrt", "tensorrt-rtx", "torch-compile", "openvino", "torch", "fake"] = "auto"
    """What compiles and runs the graphs. `auto`: on an NVIDIA GPU tensorrt where it is installed and runs on it, else
    torch-compile on Hopper and Blackwell in data centres, else torch; on CPUs openvino. `torch` is the reference;
    `fake` computes nothing, for tests."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"] = "auto"
    """`auto`: fp16 on a GPU, bf16 where the CPU has it, else fp32. `int8` on openvino, `fp8` on tensorrt: CLIP's image
    towers, the rest as with `auto`."""
    scorers: dict[str, dict[str, Any]] | None = None
    """Scorers to load, each with its own section. Default: all four on the embedded networks."""
    licences: LicenceSettings = LicenceSettings()
    drift: DriftSettings = DriftSettings()
    privacy: PrivacySettings = PrivacySettings()
    images: ImageSettings = ImageSettings()
    limits: Limits = Limits()
    urls: UrlSettings = UrlSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    edge: EdgeSettings = EdgeSettings()
    tracing: TracingSettings = TracingSettings()
    batching: BatchSettings = BatchSettings()
    caches: CacheSettings = CacheSettings()
    engines: EngineSettings = EngineSettings()
    replicas: ReplicaSettings = ReplicaSettings()
    groups: dict[GroupName, GroupSettings] = {}
    cache_dir: HomePath = Path("~/.cache/plumbline")
    """Folder in which compiled engines are kept."""
    store: StoreUrl = SecretStr(DEFAULT_STORE)
    """Where decisions are kept: `sqlite:///PATH` for one machine, `postgresql://USER:PASSWORD@HOST:5432/DATABASE` for
    several (the extra `postgresql`). Made when the first one is; nothing else needs it."""
    host: str = "0.0.0.0"  # noqa: S104 - a service listens  # nosec B104
    """Address to listen on. `127.0.0.1` keeps the service on this machine."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port of REST."""
    grpc_port: int = Field(default=9000, ge=1, le=65535)
    """Port of gRPC."""
    log_level: LogLevel = "info"
    """From which level on the service's lines are logged; each request is a line at `info`, probes at `debug`."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """Of the lines that the command writes to stderr. `auto`: `text` on a terminal, else `json`, an object a line."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def folder(self) -> Path:
        """Where relative paths are seen from: the configuration file's folder, else the working directory."""
        return self._folder

    @property
    def encoder_groups(self) -> dict[str, GroupSettings]:
        """Encoder groups by name; none in the fused layout, and one of everything where none is configured."""
        if self.replicas.layout == "fused":
            return {}
        replicas = self.replicas
        whole = GroupSettings(
            scorers=self.scorer_names,
            replicas=replicas.num_encoders,
            cpus=replicas.encoder_cpus,
            gpus=replicas.encoder_gpus,
        )
        return self.groups or {WHOLE_GROUP: whole}

    def of_group(self, name: str) -> Self:
        """What holds in a replica of the group: engines have the threads that it reserves, unless told otherwise."""
        if self.replicas.compute_threads or name not in self.groups:
            return self
        replicas = self.replicas.model_copy(update={"compute_threads": self.groups[name].num_threads})
        return self.model_copy(update={"replicas": replicas})

    @property
    def scorer_names(self) -> tuple[str, ...]:
        """The scorers that are loaded, in their order."""
        if self.scorers is not None:
            return tuple(self.scorers)
        return tuple(scorer.info.name for scorer in SCORERS if scorer.info.has_embedded_weights)

    @model_validator(mode="after")
    def _groups_fit_the_layout_and_the_scorers(self) -> Self:
        if not self.groups:
            return self
        if self.replicas.layout == "fused":
            raise ValueError("groups needs replicas.layout: split")
        for name in ("num_encoders", "encoder_cpus", "encoder_gpus"):
            if getattr(self.replicas, name) != ReplicaSettings.model_fields[name].default:
                raise ValueError(f"groups says what replicas.{name} would")
        if found := list(faults(self.groups, self.scorer_names)):
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def _the_jpeg_decoder_has_a_gpu(self) -> Self:
        if self.images.jpeg_decoder == "nvjpeg" and self.replicas.layout == "split":
            raise ValueError("images.jpeg_decoder: nvjpeg needs replicas.layout: fused: gateways decode, without a GPU")
        return self

    @model_validator(mode="after")
    def _divisors_are_of_loaded_scorers(self) -> Self:
        if unknown := sorted(self.edge.reward_divisors.keys() - {*self.scorer_names}):
            raise ValueError(f"edge.reward_divisors names {unknown[0]}, which is not among the scorers")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above what the caller passes, which is the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the settings.

    Relative paths in the file are seen from the folder that it lies in, others from the working directory.

    Args:
        path: The YAML file, or `preset:NAME`; None: the one that `PLUMBLINE_CONFIG` names, or none at all.
        overrides: Validated top-level fields that win over everything else; entries of None are left out.

    Raises:
        ConfigError: The file is missing, is not YAML, or does not validate, or a variable is none of ours.
    """
    check_names(os.environ, Settings)
    named = os.environ.get(CONFIG_VARIABLE)
    path = path or (Path(named) if named else None)
    settings = _read({}, None) if path is None else _read(_found(path), path.absolute().parent, str(path))
    settings = settings.model_copy(update={key: value for key, value in (overrides or {}).items() if value is not None})
    if path is not None:
        settings._folder = path.absolute().parent  # noqa: SLF001 - its own module
    return settings


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The settings that a program gives in place of a file; relative paths are seen from the working directory.

    Raises:
        ConfigError: As for `load_settings`.
    """
    check_names(os.environ, Settings)
    return _read(_plain(values), Path.cwd())


def _read(values: dict[str, Any], folder: Path | None, named: str | None = None) -> Settings:
    try:
        return Settings(**(values if folder is None else _anchor(values, folder)))
    except ValidationError as error:
        raise ConfigError(explain(error) + meant(error, Settings), path=named) from error
    except SettingsError as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ConfigError(f"A PLUMBLINE_… variable cannot be read: {error}{cause}.", path=named) from error


def _anchor(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The file's values with their relative paths as seen from its folder."""
    seen = dict(values)
    for section, option in PATHS:
        within = seen.get(section)
        if option is None and isinstance(within, str):
            seen[section] = anchored(within, folder, "path")
        elif isinstance(within, dict) and isinstance(within.get(option), str):
            seen[section] = {**within, option: anchored(within[option], folder, "path")}
    if isinstance(seen.get("store"), str):
        seen["store"] = anchored_store(seen["store"], folder)
    if isinstance(seen.get("scorers"), dict):
        seen["scorers"] = anchor_sections(seen["scorers"], folder)
    return seen


def _found(path: Path) -> dict[str, Any]:
    """What a configuration holds, of a file or of a preset."""
    named = str(path)
    return preset_values(named) if named.startswith(PREFIX) else _read_yaml(path)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}.", path=str(path)) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # a date such as 2024-13-45: ValueError
        raise ConfigError(f"The configuration file {path} cannot be read: {_reason(error)}.", path=str(path)) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"The configuration file {path} must hold a mapping.", path=str(path))
    return _plain(values, str(path))


def _plain(values: Mapping[Any, Any], named: str | None = None) -> dict[str, Any]:
    if hidden := [key for key in values if str(key).startswith("_")]:  # pydantic-settings has arguments of such names
        raise ConfigError(f"The configuration is not valid at {hidden[0]}: there is no such field.", path=named)
    return {str(key): value for key, value in values.items()}


def _reason(error: Exception) -> str:
    """Why YAML cannot be read, on one line, with the place as editors count."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return problem if mark is None else f"{problem}, in line {mark.line + 1}, column {mark.column + 1}"
