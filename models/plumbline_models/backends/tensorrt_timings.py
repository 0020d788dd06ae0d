"""Keeps how long kernels took, so that the next build on this kind of GPU need not time them again.

For `tensorrt` alone: `tensorrt_rtx` times nothing, and asking it for a timing cache makes it look for a GPU.
"""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def read_timings(config: Any, file: Path) -> None:
    """Give a builder's configuration the timings of earlier builds; none where there are none, or not of use."""
    try:
        kept = file.read_bytes()
    except OSError:
        kept = b""
    if not config.set_timing_cache(config.create_timing_cache(kept), ignore_mismatch=False):
        logger.info("Kernel timings of another GPU or version are left aside.", extra={"file": str(file)})
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def write_timings(config: Any, file: Path) -> None:
    """Keep a configuration's timings, whole or not at all; what cannot be written is only slower next time."""
    content = bytes(config.get_timing_cache().serialize())
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            draft.write(content)
        os.replace(draft.name, file)  # noqa: PTH105 - the draft has a name, not a path
    except OSError as error:
        logger.warning("Kernel timings cannot be kept: %s.", error.strerror or error, extra={"file": str(file)})
