"""The program that Ray starts each worker with where a service has a machine to itself, instead of its `setup_worker`.

Ray's own imports Ray to see what environment a worker asks for, and then starts Python anew, which imports Ray again.
Here no worker asks for any, so one process is enough: half a second of CPU less for each. It is run by its path, and
imports nothing of ours.
"""

import argparse
import importlib
import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path


def import_serve() -> None:
    """Import Ray Serve without pandas, which it imports where that is installed, for DataFrames in answers.

    No answer of ours holds one, and pandas is a quarter of what Serve imports. Whatever asks for it later gets it.
    """
    is_there = "pandas" in sys.modules
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type]  # how Python is told that there is none
    try:
        importlib.import_module("ray.serve")
    finally:
        if not is_there:
            del sys.modules["pandas"]


def main(arguments: list[str]) -> None:
    """Become the worker.

    Args:
        arguments: Ray's own program for workers, its arguments, and what `setup_worker` is given among them.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    given, (program, *rest) = parser.parse_known_args(arguments)
    if given.language != "PYTHON" or json.loads(given.serialized_runtime_env_context) or not program.endswith(".py"):
        command = [sys.executable, _rays_own(), *arguments]
        os.execv(sys.executable, command)  # noqa: S606 - as Ray starts it  # nosec B606
    sys.argv = [program, *rest]
    sys.path[0] = str(Path(program).parent)  # as where Python is started with it
    import_serve()
    runpy.run_path(program, run_name="__main__")


def _rays_own() -> str:
    spec = importlib.util.find_spec("ray")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Ray is not installed.")
    return str(Path(spec.origin).with_name("_private") / "workers" / "setup_worker.py")


if __name__ == "__main__":
    main(sys.argv[1:])
