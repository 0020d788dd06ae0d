"""What Ray's own ports ask for: whoever reaches them without it runs any code, for Ray unpickles what it receives.

`plumbline serve` gives each service a token of its own, in a file that its user alone can read and that goes with the
service. Ray itself would share one among all clusters of a user, in `~/.ray/auth_token`, which it writes for everybody
to read.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.private_files import check_private, write_private

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_TOKEN_BYTES = 32
_FILE = "ray-token"


def own_token(folder: Path) -> dict[str, str]:
    """Variables by which Ray asks for a token of this service alone; what the caller has set already stays.

    Args:
        folder: Of this service alone.
    """
    if TOKEN in os.environ or TOKEN_PATH in os.environ:
        return {MODE: "token"}
    path = folder / _FILE
    write_private(path, secrets.token_hex(_TOKEN_BYTES))
    return {MODE: "token", TOKEN_PATH: str(path)}


def token_file(environment: Mapping[str, str]) -> Path | None:
    """The file that Ray reads its token from; None where a variable holds it.

    Args:
        environment: Of the process.
    """
    if environment.get(TOKEN):
        return None
    given = environment.get(TOKEN_PATH)
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def check_own_start(environment: Mapping[str, str], *, is_required: bool) -> None:
    """See before Ray is started that what the caller has set lets it ask for a token, as it does by itself.

    Args:
        environment: Of the command.
        is_required: Whether it must.

    Raises:
        ConfigError: It must and will not, or others can read the token that the caller names.
    """
    is_asked_for = environment.get(MODE, "token").lower() == "token"
    if is_required and (not is_asked_for or environment.get(TOKEN_PATH)):
        check_token(environment, is_asked_for=is_asked_for)


def check_token(environment: Mapping[str, str], *, is_asked_for: bool) -> None:
    """See that Ray asks for a token, and that others on the machine cannot read it.

    Args:
        environment: Of the process.
        is_asked_for: Whether Ray says that it does.

    Raises:
        ConfigError: It does not, or they can.
    """
    if not is_asked_for:
        raise ConfigError(
            "Ray's own ports ask for no token, so whoever reaches them runs any code here: start every node with "
            f"{MODE}=token, or set auth.require_ray_token to false where a firewall keeps everybody else away."
        )
    if (path := token_file(environment)) is not None:
        check_private(path, "Ray's token", path)
