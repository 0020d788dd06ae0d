"""The setting `store`: where decisions are kept that must outlive a process."""

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

SQLITE, POSTGRESQL = "sqlite:///", "postgresql://"
DEFAULT_STORE: Final = f"{SQLITE}~/.cache/plumbline/store.db"


def _checked(url: SecretStr) -> SecretStr:
    address = url.get_secret_value()
    if not address.startswith((SQLITE, POSTGRESQL)):
        raise ValueError(f"it begins neither with {SQLITE} nor with {POSTGRESQL}")
    if address.removeprefix(SQLITE).strip() in {"", ":memory:"}:
        raise ValueError(f"it names no file: {SQLITE}PATH")
    try:
        _ = urlsplit(address).port
    except ValueError:  # its words show a piece of the address, which may be one of the password
        raise ValueError("its port is no number, or a character of its password is not written as %XX") from None
    return url


StoreUrl = Annotated[SecretStr, AfterValidator(_checked)]


def store_file(url: SecretStr) -> Path | None:
    """The file of a store in SQLite, as the setting names it; None: it is in PostgreSQL."""
    address = url.get_secret_value()
    return Path(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else None


def anchored_store(url: str, folder: Path) -> str:
    """The setting of a configuration file, a relative path in it as seen from the folder that the file lies in.

    Args:
        url: As it stands there.
        folder: Where the configuration lies.
    """
    path = url.removeprefix(SQLITE)
    is_relative = url.startswith(SQLITE) and path and not path.startswith(("/", "~", ":"))
    return f"{SQLITE}{folder / path}" if is_relative else url
