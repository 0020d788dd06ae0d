"""The file of API keys: what it holds of each, how it is read, and how it is changed.

It holds SHA-256 of each key and no key. That is enough, for keys are 256 random bits: salt and slow hashes protect
passwords, which somebody can guess, and here each request hashes one.
"""

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

import yaml
from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.private_files import check_private
from plumbline_serve.scheduling.request_context import Caller
from plumbline_serve.settings.unique_yaml import load_yaml

Scope: TypeAlias = Literal["score", "decide", "admin", "embed"]
"""What a key may do: score and read what is loaded; keep and change decisions; see metrics and operate; have vectors as
they are, where `privacy.embeddings` keeps them from others."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "plumb_"  # by which scanners of repositories and logs find a key
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_KEY_BYTES = 32
_HEAD = "# API keys of Plumbline, hashed. `plumbline keys` changes this file; services read it again when it changes.\n"
_RATE = re.compile(rf"(\d{{1,9}})/({'|'.join(SECONDS)})")
_MAX_WEIGHT = 1000.0


class KeyEntry(BaseModel):
    """One key, as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Of whoever calls by it."""
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", repr=False)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    weight: Annotated[float, Field(gt=0, le=_MAX_WEIGHT)] = 1.0
    """Its share beside other keys while both wait."""
    rate: Annotated[str, Field(pattern=rf"^{_RATE.pattern}$")] | None = None
    """Items per window, `100/minute`; None: any number."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Requests under way at one gateway; None: any number."""
    expires: AwareDatetime | None = None
    """When it stops to work; None: never."""

    @property
    def digest(self) -> bytes:
        """Of the key."""
        return bytes.fromhex(self.hash.partition(":")[2])

    @property
    def caller(self) -> Caller:
        """Who calls by it."""
        return Caller(self.name, self.weight, sees_embeddings="embed" in self.scopes)

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= datetime.now(UTC)

    @property
    def quota(self) -> tuple[int, int] | None:
        """Items, and the seconds of the window that they are for; None: any number."""
        match = _RATE.fullmatch(self.rate or "")
        return (int(match[1]), SECONDS[match[2]]) if match else None


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: tuple[KeyEntry, ...]

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        for field in ("name", "hash"):
            if len({getattr(key, field) for key in self.keys}) < len(self.keys):
                raise ValueError(f"two keys have the same {field}")
        return self


def new_key() -> str:
    """A key that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest_of(key: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode()).digest()


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """The keys of a file, in its order; where it lists none, nobody may call.

    Raises:
        ConfigError: It cannot be read, is not as `plumbline keys` writes it, or others than its owner may read it. The
            sentence shows nothing of what it holds.
    """
    try:
        with path.expanduser().open("rb") as file:
            check_private(file.fileno(), "The file of API keys", path)
            values = load_yaml(file.read().decode())
        return _KeysFile.model_validate(values).keys
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"The file of API keys cannot be read: {reason}.", path=str(path)) from error
    except ValidationError as error:
        raise ConfigError(f"The file of API keys is not as it must be: {_faults(error)}.", path=str(path)) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # their own words show a piece of the file
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise ConfigError(f"The file of API keys is not YAML in UTF-8{where}.", path=str(path)) from None


@contextmanager
def changing(path: Path) -> Iterator[list[KeyEntry]]:
    """The keys of a file, to be changed in place; on leaving they are written, unless an error is raised.

    Others that change it wait meanwhile. The new file replaces the old one at once, and keeps its owner.

    Raises:
        ConfigError: The file is there and cannot be used.
    """
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), mode=0o600):
        entries = list(read_keys(path)) if path.exists() else []
        yield entries
        _write(path, entries)


def _write(path: Path, entries: Sequence[KeyEntry]) -> None:
    documents = [entry.model_dump(mode="json", exclude_defaults=True) for entry in entries]
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if path.exists():
                before = path.stat()
                os.chown(file.fileno(), before.st_uid, before.st_gid)
            file.write(_HEAD + yaml.safe_dump({"keys": documents}, sort_keys=False))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _faults(error: ValidationError) -> str:
    """Where and why, without names of unknown fields: in a file of another format those may be keys."""
    return "; ".join(f"{_place(fault)}{fault['msg'].removeprefix('Value error, ')}" for fault in error.errors())


def _place(fault: Any) -> str:
    known = {"keys", *KeyEntry.model_fields}
    steps = [str(step) if isinstance(step, int) or step in known else "(unknown field)" for step in fault["loc"]]
    return f"{'.'.join(steps)}: " if steps else ""
