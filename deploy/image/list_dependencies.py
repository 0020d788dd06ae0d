"""Prints what the two distributions depend on, themselves left out: `list_dependencies.py [EXTRA]`.

Installed in a layer of their own, gigabytes are not made and pushed again whenever a line of code changes.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "clients/pyproject.toml")
OWN = ("plumbline-client", "plumbline-serve")


def main(extra: str) -> None:
    """Print one requirement a line."""
    server, client = (tomllib.loads((ROOT / name).read_text())["project"] for name in FILES)
    wanted = [*server["dependencies"], *client["dependencies"], *client["optional-dependencies"]["grpc"]]
    wanted += server["optional-dependencies"][extra] if extra else []
    print("\n".join(sorted({each for each in wanted if not each.startswith(OWN)})))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
