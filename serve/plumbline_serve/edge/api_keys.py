"""Who may call: keys from a file, held as digests."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from plumbline_models.core.errors import ConfigError, UnauthenticatedError
from plumbline_serve.request_context import ANYONE, Caller

_KEY = re.compile(r"[\x21-\x7e]+")
_SCHEME = "bearer"


class ApiKeys:
    """The keys that may call; without any, everyone may."""

    def __init__(self, keys: Iterable[str] | None = None) -> None:
        self._digests = None if keys is None else [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read a file of keys, one a line; `#` starts a comment. None: everyone may call.

        Raises:
            ConfigError: The file cannot be read, holds no key, or a line is no key.
        """
        if path is None:
            return cls()
        try:
            lines = path.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("The file of API keys cannot be read.", path=str(path)) from error
        keys = [(number, key) for number, line in enumerate(lines, 1) if (key := line.partition("#")[0].strip())]
        for number, key in keys:
            if not _KEY.fullmatch(key):
                raise ConfigError(f"Line {number} of the file of API keys is not one key.", path=str(path))
        if not keys:
            raise ConfigError("The file of API keys holds no key.", path=str(path))
        return cls(key for _, key in keys)

    def check(self, authorization: str | None) -> Caller:
        """Let the caller pass or not, in the same time for every wrong key.

        Args:
            authorization: The header or metadata of that name: `Bearer KEY`.

        Returns:
            Who calls.

        Raises:
            UnauthenticatedError: There is no key in it, or one that is not known.
        """
        if self._digests is None:
            return ANYONE
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != _SCHEME or not key.strip():
            raise UnauthenticatedError("The call needs an API key: send 'authorization: Bearer KEY'.")
        digest = _digest(key.strip())
        if not any([hmac.compare_digest(digest, known) for known in self._digests]):  # noqa: C419 - looks at every key
            raise UnauthenticatedError("The API key is not known.")
        return ANYONE


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
