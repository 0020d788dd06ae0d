"""A gateway starts only where Ray's own ports ask for a token, as Ray itself says in a process of that environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_serve.machine.ray_token import MODE, TOKEN, TOKEN_PATH, own_token
from tests.programs import program_environment

PROGRAM = """
import logging
import sys
from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings.access import AuthSettings
from plumbline_serve.deployments.token_check import require_token
logging.basicConfig(format="%(message)s")
try:
    require_token(AuthSettings(require_ray_token=sys.argv[1] == "required"))
except ConfigError as error:
    sys.exit(error.detail)
print("started")
"""


def started(how: str, **variables: str) -> tuple[str, str]:
    """What a gateway's process prints, and what it says on stderr."""
    environment = program_environment(**{MODE: "disabled", TOKEN: "", TOKEN_PATH: "", **variables})
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], env=environment, capture_output=True, text=True, check=False
    )
    return ran.stdout.strip(), ran.stderr


def test_without_a_token_it_does_not_start() -> None:
    printed, said = started("required")
    assert printed == ""
    assert "start every node with RAY_AUTH_MODE=token" in said


def test_where_the_operator_says_so_it_starts_and_warns() -> None:
    printed, said = started("optional")
    assert printed == "started"
    assert "auth.require_ray_token is false: Ray's own ports ask for no token" in said


@pytest.mark.parametrize(("mode", "starts"), [(0o600, True), (0o644, False)], ids=oct)
def test_with_a_token_it_starts_if_nobody_else_can_read_it(tmp_path: Path, mode: int, *, starts: bool) -> None:
    variables = own_token(tmp_path)
    Path(variables[TOKEN_PATH]).chmod(mode)
    printed, said = started("required", **variables)
    assert printed == ("started" if starts else "")
    assert ("chmod 600" in said) is not starts
