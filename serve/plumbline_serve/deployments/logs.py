"""Where a replica's log goes: to the file in which Ray Serve logs for it, and to stderr, at once.

Ray Serve gives handlers to its own logger alone, and for throughput keeps lines back until there are a thousand.
"""

import logging
import sys
from logging.handlers import MemoryHandler

_OURS = ("plumbline_serve", "plumbline_models")
_RAY_SERVE = "ray.serve"


def log_as_ray_serve_does() -> None:
    """Have what Plumbline logs written, in Ray Serve's format; called in each replica, where Ray Serve is set up."""
    kept_back = [each for each in logging.getLogger(_RAY_SERVE).handlers if isinstance(each, MemoryHandler)]
    files = [each.target for each in kept_back if each.target is not None]
    if not files:  # in no replica
        return
    stderr = logging.StreamHandler(sys.__stderr__)  # Ray may have put its own log in the place of `sys.stderr`
    stderr.setFormatter(files[0].formatter)
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers[:] = [*files, stderr]
        logger.propagate = False
