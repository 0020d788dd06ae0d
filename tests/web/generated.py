"""What generators make of the service's own description, in folders of the tests."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import INSTALL_S, npm_install, program

SOURCE = Path(__file__).parents[2] / "clients" / "typescript"
OFFLINE = ("No matching distribution", "Failed to establish a new connection", "Temporary failure in name resolution")


def run(*command: str | Path, folder: Path, **options: str) -> str:
    """What a program prints; its own words where it fails."""
    ran = subprocess.run(
        [str(each) for each in command], cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False,
        env=options or None,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout


def pack_typescript(folder: Path, url: str) -> Path:
    """The TypeScript client as npm would publish it, its types made of the description of a service.

    Args:
        folder: For its sources and the package.
        url: Of the service.
    """
    sources = shutil.copytree(SOURCE, folder / "typescript", ignore=shutil.ignore_patterns("node_modules", "dist"))
    (sources / "openapi.json").write_text(json.dumps(httpx.get(f"{url}/openapi.json").json()), encoding="utf-8")
    npm_install(sources)
    npm = program("npm", "nodejs", "npm")
    run(npm, "run", "generate", folder=sources)
    [name] = json.loads(run(npm, "pack", "--json", folder=sources))
    return sources / str(name["filename"])


def make_python(folder: Path, url: str) -> Path:
    """The Python of an environment with a client that openapi-python-client made of a service's description.

    Args:
        folder: For the environment and the client.
        url: Of the service.
    """
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    ran = subprocess.run(
        [*install, "openapi-python-client>=0.26,<1"], capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if ran.returncode:
        if any(words in ran.stderr for words in OFFLINE):
            pytest.skip("PyPI does not answer")
        raise AssertionError(ran.stderr)
    (folder / "settings.yaml").write_text("post_hooks: []\n", encoding="utf-8")
    made = run(
        python.with_name("openapi-python-client"), "generate", "--url", f"{url}/openapi.json", "--meta", "none",
        "--config", "settings.yaml", "--output-path", folder / "plumbline_generated", "--fail-on-warning",
        folder=folder,
    )  # fmt: skip
    assert "WARNING" not in made
    return python
