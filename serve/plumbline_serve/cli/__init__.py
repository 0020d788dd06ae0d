"""The `plumbline` command.

Results go to stdout, everything else to stderr. Exit status: 0 ok, 1 some items failed, 2 wrong usage.
"""

from plumbline_serve.cli.main import main

__all__ = ["main"]
