"""The Dockerfile without Docker: hadolint reads it, and what it runs is run here."""

import os
import re
import socketserver
import subprocess
import sys
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "image" / "install.sh"
LISTING = ROOT / "deploy" / "image" / "list_dependencies.py"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], text=True, capture_output=True, check=False, env={**os.environ, **environment}
    )


def test_hadolint_finds_nothing() -> None:
    ran = run(Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile")
    assert (ran.returncode, ran.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM ubuntu\nRUN cd /tmp && sudo true\n")
    assert run(Path(sys.executable).parent / "hadolint", tmp_path / "Dockerfile").returncode == 1


def test_the_dockerfile_copies_only_what_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        word
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert copied
    for name in copied:
        assert any(name == each or name.startswith(f"{each}/") for each in sent), name
        assert (ROOT / name).exists(), name


def test_what_is_large_is_kept_in_the_volume_and_not_in_temporary_memory() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    images = [stage for stage in stages if "ENTRYPOINT" in stage]
    assert len(images) == 2
    for image in images:
        volume = re.search(r"^VOLUME (\S+)$", image, re.MULTILINE)
        variables = dict(re.findall(r"(?:ENV|^) +(\w+)=(\S+)", image, re.MULTILINE))
        assert volume is not None
        program = "from huggingface_hub import constants as c; print(c.HF_HUB_CACHE, c.HF_XET_CACHE, sep='\\n')"
        kept = run(sys.executable, "-c", program, HF_HOME=variables["HF_HOME"], HOME=variables["HOME"])
        store = variables["PLUMBLINE_STORE"].removeprefix("sqlite:///")
        for folder in (*kept.stdout.split(), variables["PLUMBLINE_CACHE_DIR"], store):
            assert Path(folder).is_relative_to(volume[1]), folder
        assert len(kept.stdout.split()) == 2


class Ready(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


class OverUnix(socketserver.ThreadingUnixStreamServer):
    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
@pytest.mark.parametrize("way", ["port", "socket"])
def test_the_health_check_asks_the_port_or_the_socket_that_there_is_with_tls(
    tmp_path: Path, way: str, status: int, code: int
) -> None:
    handler = type("Handler", (Ready,), {"status": status})
    (tmp_path / "plumbline-x").mkdir()
    server: socketserver.BaseServer
    if way == "port":
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        port = server.server_address[1]
    else:
        server, port = OverUnix(str(tmp_path / "plumbline-x" / "rest"), handler), 1
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    checked = run(sys.executable, "-I", "-S", SCRIPT.with_name("is_ready.py"), str(port), TMPDIR=str(tmp_path))
    server.shutdown()
    thread.join()
    server.server_close()
    assert (checked.returncode, checked.stderr) == (code, "")


def test_where_nothing_listens_the_health_check_fails(tmp_path: Path) -> None:
    assert run(sys.executable, "-I", "-S", SCRIPT.with_name("is_ready.py"), "1", TMPDIR=str(tmp_path)).returncode == 1


@pytest.mark.parametrize(
    ("extra", "has_tensorrt"), [pytest.param("", False, id="cpu"), pytest.param("gpu", True, id="gpu")]
)
def test_dependencies_are_those_of_both_distributions(extra: str, has_tensorrt: bool) -> None:
    listed = run(sys.executable, LISTING, extra).stdout.splitlines()
    names = {line.split(">")[0].split("=")[0].split("[")[0] for line in listed}
    assert {"ray", "torch", "openvino", "protobuf"} <= names
    assert ("tensorrt" in names) is has_tensorrt
    assert not {name for name in names if name.startswith("plumbline")}


def test_the_wheels_are_built_and_the_command_starts(tmp_path: Path) -> None:
    built = run(SCRIPT, "wheels", tmp_path / "wheels", PYTHON=sys.executable)
    assert built.returncode == 0, built.stderr
    assert len(list((tmp_path / "wheels").glob("plumbline_*.whl"))) == 2
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "prefix"], check=True)
    # The dependencies are gigabytes: taken from the environment that runs the tests.
    here = sysconfig.get_path("purelib")
    installed = run(SCRIPT, "product", tmp_path / "prefix", tmp_path / "wheels", PYTHONPATH=here)
    assert installed.returncode == 0, installed.stderr


def test_a_step_that_does_not_exist_is_explained() -> None:
    ran = run(SCRIPT, "publish")
    assert ran.returncode == 2
    assert "install.sh wheels FOLDER" in ran.stderr
