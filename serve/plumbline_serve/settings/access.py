"""Settings of who may call, how callers reach the service, and what it shows them."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

Protocol: TypeAlias = Literal["openai", "rerank", "open_inference", "flow_factory", "unirl", "flow_grpo"]
"""Another service's wire format that is spoken as well."""
LIMITS_SCHEMES = ("redis", "rediss", "redis+cluster", "redis+sentinel")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::\d{1,5})?")


class Section(BaseModel):
    """What every section is: read-only, without fields that nobody knows; errors do not show what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _checked_origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("not an origin as browsers send it: scheme, host in lower case and port, without a path")
    return origin


def _checked_limits_url(url: SecretStr) -> SecretStr:
    if url.get_secret_value().partition("://")[0] not in LIMITS_SCHEMES:
        raise ValueError(f"its scheme is none of {', '.join(LIMITS_SCHEMES)}")
    return url


class AuthSettings(Section):
    """Who may call, and what Ray's own ports ask for."""

    keys_file: Path | None = None
    """File of hashed API keys, as `plumbline keys` writes it. Without it everyone may call."""
    limits_url: Annotated[SecretStr, AfterValidator(_checked_limits_url)] | None = None
    """Redis in which all gateways count what keys use, `redis://:PASSWORD@HOST:6379/0`. Default: each counts alone."""
    require_ray_token: bool = True
    """Whether a gateway refuses to start where Ray's own ports ask for no token. `false`: it starts and warns."""


class TlsSettings(Section):
    """TLS for REST and gRPC, by the HAProxy that `plumbline serve` starts."""

    cert: Path | None = None
    """PEM file of the service's certificate and those between it and the root. Without it there is no TLS."""
    key: Path | None = None
    """PEM file of its private key. Default: in the file of the certificate."""
    client_ca: Path | None = None
    """PEM file of authorities. Callers without a certificate of one of them are refused."""

    @model_validator(mode="after")
    def _belongs_to_a_certificate(self) -> Self:
        if self.cert is None and (self.key or self.client_ca):
            raise ValueError("key and client_ca need cert")
        return self


class EdgeSettings(Section):
    """What is there beside our own routes, for browsers, scrapers and clients of other services."""

    compat: tuple[Protocol, ...] = ()
    """Wire formats of other services that are spoken as well ([compat.md](compat.md)): `openai` (embeddings), `rerank`
    (Cohere, TEI, vLLM), `open_inference` (v2, REST and gRPC), and of reward services `flow_factory`, `unirl` and
    `flow_grpo` (verl-omni too)."""
    reward_divisors: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """By scorer, what its values are divided by for clients of `flow_factory`, `unirl` and `flow_grpo`, whose own
    services have other scales ([compat.md](compat.md#scales)): `{pickscore: 26, clipscore: 0.75}`."""
    audits: bool = False
    """Whether `/v1/sets/audit` answers, which may label pictures by groups of people; else it is 403 `forbidden`."""
    pages: bool = True
    """Whether the playground, `/docs`, `/openapi.json` and gRPC reflection are there."""
    metrics: bool = True
    """Whether `/metrics` is there; where keys are asked for, it takes one of scope `admin`."""
    cors_origins: tuple[Annotated[str, AfterValidator(_checked_origin)], ...] = ()
    """Origins whose pages may call from a browser, such as `https://app.example`. Default: none."""


class PrivacySettings(Section):
    """How much replies show of what was computed."""

    embeddings: Literal["open", "rounded", "off"] = "open"
    """Whether `/v1/embed` gives vectors as they are, with 3 decimals, or none. Keys of scope `embed` get them as they
    are."""
    score_decimals: int | None = Field(default=None, ge=1, le=12)
    """Decimals of scores in replies. Bounds and ranks are of exact ones, calibrations of shown ones. Default: all."""
