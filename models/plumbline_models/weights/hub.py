"""Whether the hub can be reached: asked once for all repositories, within seconds.

The hub's client tries again and again for each file, half a minute where a name does not resolve. What is not cached
cannot be had then, and people should hear so at once.
"""

import threading
import time
from typing import Final

WAIT_S: Final = 5.0
"""For an answer of any kind, names and proxies included."""
RECALL_S: Final = 30.0
"""For how long a hub that did not answer is not asked again."""


class Reach:
    """One address; who asks while an answer is awaited gets the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_reached = False
        self._failed_at: float | None = None

    def answers(self) -> bool:
        """Whether the hub answers; not asked where its client is told to stay offline. Blocks for `WAIT_S` at most."""
        from huggingface_hub import constants  # noqa: PLC0415 - a quarter of a second, and local checkpoints never ask

        if constants.HF_HUB_OFFLINE:
            return False
        with self._lock:
            if self._is_reached:
                return True
            if self._failed_at is not None and time.monotonic() - self._failed_at < RECALL_S:
                return False
            self._is_reached = _answers_in_time()
            self._failed_at = None if self._is_reached else time.monotonic()
            return self._is_reached


HUB: Final = Reach()
"""Of this process."""


def _answers_in_time() -> bool:
    """Ask on a thread that is left behind: resolving a name heeds no time limit."""
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(_answers()), name="hub", daemon=True)
    asking.start()
    asking.join(WAIT_S)
    return found == [True]


def _answers() -> bool:
    from huggingface_hub import constants, get_session  # noqa: PLC0415 - as above

    try:
        get_session().head(constants.ENDPOINT, timeout=WAIT_S)
    except Exception:  # noqa: BLE001 - whatever the client and the proxies in its way raise, there was no answer
        return False
    return True
