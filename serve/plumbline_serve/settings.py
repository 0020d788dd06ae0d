"""The configuration: one frozen object, read once, passed down as values.

Sources, strongest first: arguments, `PLUMBLINE_…` variables (`PLUMBLINE_LIMITS__MAX_ITEMS=64`), the YAML file,
the defaults below. No other module reads the environment. `make docs` makes docs/settings.md of the docstrings below.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.licences import LicenceClass
from plumbline_models.core.protocols import EncoderKind
from plumbline_models.core.sections import explain
from plumbline_models.scorers import SCORERS, anchor_sections
from plumbline_models.weights.paths import anchored
from plumbline_serve.access_settings import AuthSettings, EdgeSettings, PrivacySettings, Section, TlsSettings
from plumbline_serve.environment_names import CONFIG_VARIABLE, check_names
from plumbline_serve.group_settings import Gpus, GroupName, GroupSettings, faults
from plumbline_serve.logs import LogLevel
from plumbline_serve.presets import PREFIX, preset_values
from plumbline_serve.store_settings import DEFAULT_STORE, StoreUrl, anchored_store
from plumbline_serve.tracing_settings import TracingSettings
from plumbline_serve.url_settings import UrlSettings

_RAW_CHANNELS = 4  # at most: with transparency
_FORM_OVERHEAD_BYTES = 2**16  # one item's text and a form's boundaries
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
_PIXELS = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(MP|MPX|KP|P)?\s*$", re.IGNORECASE)
_PIXEL_UNITS = {"MP": 10**6, "MPX": 10**6, "KP": 10**3, "P": 1, "": 1}


def _parse_pixels(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _PIXELS.match(value)
    if match is None:
        raise ValueError("not a number of pixels, such as 50MP or 50000000")
    return int(float(match[1]) * _PIXEL_UNITS[(match[2] or "").upper()])


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path} is in a home folder, and there is none here") from error


HomePath = Annotated[Path, AfterValidator(_at_home), Field(validate_default=True)]
PixelCount = Annotated[int, BeforeValidator(_parse_pixels), Field(gt=0)]


class ImageSettings(Section):
    """How image files become pixels."""

    exif_orientation: Literal["apply", "ignore"] = "apply"
    """Whether the camera's orientation tag turns the image. The papers' own programs ignore it."""
    alpha: Literal["white", "drop"] = "white"
    """Whether transparency is composited on white or dropped. The papers' own programs drop it."""


class Limits(Section):
    """What one request may carry, and all requests together."""

    max_items: int = Field(default=256, ge=1)
    """Items per request. Each image or text of `/v1/rank` and `/v1/embed` counts as an item."""
    max_questions: int = Field(default=2048, ge=1)
    """Questions per request, of all its items together."""
    max_frames: int = Field(default=1024, ge=1)
    """Frames of videos per request, of all its items together."""
    max_image_bytes: ByteSize = Field(default=ByteSize(20 * 2**20), ge=1)
    """Bytes of one image file, as sent. Raw pixels are bounded by `max_pixels` instead."""
    max_pixels: PixelCount = 50 * 10**6
    """Pixels of one image, read from its header before it is decoded. Bounds raw pixels as well."""
    max_decode_s: float = Field(default=10.0, gt=0)
    """Seconds of CPU time that one image may take to decode, and six times as many by the clock, if it is neither a
    JPEG, nor a PNG, nor a WebP of usual kind: such are decoded in a process of their own, which is ended then."""
    max_request_bytes: ByteSize = Field(default=ByteSize(64 * 2**20), ge=1)
    """Bytes of one request body. A form or a gRPC message may always hold one raw image of `max_pixels`."""
    max_bytes_in_flight: ByteSize = Field(default=ByteSize(512 * 2**20), ge=1)
    """Bytes of all requests under way in one gateway, REST and gRPC together. Further ones get 503."""
    max_text_chars: int = Field(default=4096, ge=1)
    """Characters of one text."""
    max_wait_ms: float = Field(default=2000.0, gt=0)
    """Milliseconds that a request without a deadline may wait for others. One that would wait longer gets 429."""
    max_upload_s: float = Field(default=60.0, gt=0)
    """Seconds in which the body of a REST request, or the message of a gRPC call, must arrive."""
    max_connections: int = Field(default=4096, ge=1)
    """Connections to the REST port at a time, and a quarter as many to the gRPC port. Further ones wait."""
    max_connections_per_address: int = Field(default=512, ge=0)
    """Connections of one address to each port at a time. Further ones are closed. 0 behind a proxy: no bound."""
    max_new_connections_per_address: int = Field(default=2000, ge=0)
    """Connections that one address may open to each port in 10 s. Further ones are closed. 0 behind a proxy: no bound.
    """

    @property
    def max_form_bytes(self) -> int:
        """Bytes of a form or a gRPC message: one image may always come as raw pixels, if its file may."""
        return max(int(self.max_request_bytes), _RAW_CHANNELS * self.max_pixels + _FORM_OVERHEAD_BYTES)


class BatchSettings(Section):
    """How requests share batches."""

    max_batch: int = Field(default=64, ge=1)
    """Inputs of typical size per batch, which engines are also built for. An encoder may take fewer."""
    adaptive: bool = True
    """Keep batches smaller than that where larger ones compute hardly more a second, as learnt while serving."""
    max_queued_items: int = Field(default=4096, ge=1)
    """Inputs that may wait for one encoder, whatever their deadlines. Further ones are refused with 429."""
    max_linger_ms: float = Field(default=10.0, ge=0)
    """Milliseconds at most that a batch waits for inputs still being decoded, and only where that saves time."""


class CacheSettings(Section):
    """What each gateway keeps of past requests. The least recently used is dropped first; 0 keeps nothing."""

    image_bytes: ByteSize = ByteSize(64 * 2**20)
    """Bytes of image encodings. A known image is neither decoded nor encoded again."""
    text_bytes: ByteSize = ByteSize(32 * 2**20)
    """Bytes of text encodings. A known text is neither tokenised nor encoded again."""
    pair_bytes: ByteSize = ByteSize(32 * 2**20)
    """Bytes of encodings of an image with a text: F-CLIPScore's attributions, VQAScore's answers."""
    caption_bytes: ByteSize = ByteSize(64 * 2**20)
    """Bytes of F-CLIPScore's matrices of captions that meet many images, kept beside the encoder."""

    @property
    def max_bytes_by_kind(self) -> dict[EncoderKind, int]:
        """Bytes by kind of encoding."""
        return {"image": int(self.image_bytes), "text": int(self.text_bytes), "pair": int(self.pair_bytes)}


class EngineSettings(Section):
    """Compiled engines: where they come from, and which sizes they are built for."""

    dir: Path | None = None
    """Folder of engines from `plumbline compile --out`. Looked up before the cache, never written to."""
    calibration_dir: Path | None = None
    """Folder of 16 or more images like those to be scored. `precision: int8` is calibrated on the first 128."""
    typical: dict[str, Annotated[int, Field(ge=1)]] = {}  # noqa: RUF012 - pydantic copies it
    """Sizes that TensorRT tunes engines to, by dimension: `batch`, `length` (tokens), `height` and `width` (px), …"""
    largest: dict[str, Annotated[int, Field(ge=1)]] = {}  # noqa: RUF012 - pydantic copies it
    """Largest sizes of TensorRT engines, by dimension. Larger batches run in parts, other larger sizes are refused."""
    strip_weights: bool = False
    """Whether TensorRT engines are built without weights, so that another checkpoint needs no build."""


class ReplicaSettings(Section):
    """How the application is laid out over processes and machines."""

    layout: Literal["fused", "split"] = "fused"
    """`fused`: gateway and encoders in one process, best on small machines. `split`: gateways decode and preprocess,
    separate replicas encode, with one hop in between; `groups` says which."""
    num_gateways: int = Field(default=1, ge=1)
    """Gateway replicas, which answer callers."""
    num_encoders: int = Field(default=1, ge=1)
    """Encoder replicas, in the split layout without `groups`."""
    gateway_cpus: float = Field(default=0.0, ge=0)
    """CPUs that Ray reserves per gateway."""
    encoder_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves per encoder replica, in the split layout without `groups`."""
    encoder_gpus: Gpus = 0.0
    """GPUs that Ray reserves per encoder replica, per gateway in the fused layout. With `groups` each has its own."""
    decode_threads: int | None = Field(default=None, ge=1)
    """Threads per gateway that decode and preprocess images. Default: one per CPU."""
    decoded_bytes: ByteSize = Field(default=ByteSize(256 * 2**20), ge=0)
    """Bytes of decoded images that a gateway holds for their request's next encoder. Others are decoded again."""
    compute_threads: int | None = Field(default=None, ge=1)
    """Threads per engine. Default: one per CPU."""
    compute_streams: int = Field(default=1, ge=1, le=64)
    """Batches that one OpenVINO engine computes at the same time, its threads divided among them. With more, many small
    requests wait less, and a lone request takes longer."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds that requests under way may still take once the service was told to stop."""


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
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """`auto`: fp16 on a GPU, bf16 where the CPU has it, else fp32. `int8`: CLIP's image towers on openvino, the rest as
    with `auto`."""
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
        raise ConfigError(explain(error), path=named) from error
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
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
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
