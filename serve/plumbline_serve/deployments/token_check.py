"""Whether Ray's own ports ask for a token, as a gateway finds it when it starts."""

import logging
import os

from ray._private.authentication.authentication_utils import is_token_auth_enabled

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.ray_token import check_token
from plumbline_serve.settings.access import AuthSettings

log = logging.getLogger(__name__)


def require_token(settings: AuthSettings) -> None:
    """See that they do.

    Args:
        settings: Whether they must.

    Raises:
        ConfigError: They must and do not, or others on the machine can read the token.
    """
    try:
        check_token(os.environ, is_asked_for=is_token_auth_enabled())
    except ConfigError as error:
        if settings.require_ray_token:
            raise
        log.warning("auth.require_ray_token is false: %s", error.detail)
