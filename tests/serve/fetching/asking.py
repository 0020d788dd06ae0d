"""How tests ask for an image, and what an error may say."""

import re

from plumbline_models.core.errors import (
    PlumblineError,
)
from plumbline_serve.fetching import RequestFetches
from plumbline_serve.messages import BrokenImage, UrlImage
from tests.serve.fetching.hosts import (
    NAME,
    Host,
)

IMAGE = bytes(range(256)) * 100
PATIENT_S, IMPATIENT_S = 60.0, 0.3
NOT_PROVEN = "does not prove by its certificate"


def url(host: Host, path: str = "/a.png", name: str = NAME) -> str:
    return f"https://{name}:{host.port}{path}"


async def fetch(fetches: RequestFetches, text: str) -> bytes:
    """The bytes of one image; raises what is wrong with it."""
    (found,) = await fetches.each([UrlImage(text)])
    if isinstance(found, BrokenImage):
        check_keeps_to_itself(found.error)
        raise found.error
    return found.data


def check_keeps_to_itself(error: PlumblineError) -> None:
    """A caller reads no address and no port, and nobody anything of the URL's path."""
    assert not re.search(r"\d+\.\d|:\d|[a-f\d]*:[a-f\d]+", error.detail), error.detail
    assert "secret" not in error.detail
    assert "secret" not in repr(error.facts)
