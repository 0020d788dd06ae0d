"""Request ids: the caller's where it sent a usable one, else a new one."""

import re
import uuid

_USABLE = re.compile(r"[\x20-\x7e]{1,128}")


def request_id(sent: str | None) -> str:
    """The id that names a request in its answer and in the log.

    Args:
        sent: What the caller sent: kept if it is 1 to 128 printable ASCII characters.
    """
    usable = (sent or "").strip(" ")
    return usable if _USABLE.fullmatch(usable) else uuid.uuid4().hex
