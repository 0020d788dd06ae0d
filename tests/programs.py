"""Python programs that tests start."""

import os
import sys


def program_environment(**variables: str) -> dict[str, str]:
    """This process's environment, with all that it can import importable for the program too."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
