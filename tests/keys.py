"""Files of API keys for tests, of keys that the tests know."""

from pathlib import Path
from typing import Any

from plumbline_serve.edge.access.keys_file import KeyEntry, changing, digest_of


def add_key(path: Path, key: str, **entry: Any) -> Path:
    """Put a key into a file, by default one called after itself and for scoring.

    Args:
        path: The file; made where there is none.
        key: What callers send.
        entry: What the file says of it.
    """
    given: dict[str, Any] = {"name": key, "scopes": ("score",), "hash": f"sha256:{digest_of(key).hex()}"}
    with changing(path) as entries:
        entries.append(KeyEntry(**given | entry))
    return path
