"""The hub as a real server on this machine: what is fetched, what is cached, what offline says."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HUB_FILE_SLASHES = 5
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import json, sys
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.core.errors import PlumblineError

def ask(arch):
    try:
        spec = ClipSpec.of(ClipSection(arch=arch))
        return [spec.name, spec.fetch().name, spec.arch.embed_dim, spec.arch.preprocess_config["resize_mode"]]
    except PlumblineError as error:
        return [type(error).__name__, error.detail]

print(json.dumps([ask(arch) for arch in sys.argv[1:]]))
"""
FOUND = ["org/tiny", "open_clip_model.safetensors", 24, "squash"]


class Hub(BaseHTTPRequestHandler):
    """Serves a folder as the repository `org/tiny`."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        if self.path.count("/") != HUB_FILE_SLASHES:  # the address itself
            return self._refuse("RepoNotFound")
        _, organisation, repository, _, _, name = self.path.split("/")
        if (organisation, repository) not in {("org", "tiny"), ("org", "empty")}:
            return self._refuse("RepoNotFound")
        file = self.folder / name
        if repository == "empty" or not file.is_file():
            return self._refuse("EntryNotFound")
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)
        return None

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("TinyHub", (Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


CHECKED = """
import json, sys
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.core.errors import PlumblineError

spec = ClipSpec.of(ClipSection(arch=sys.argv[1]))
said = []
for seek in ("here", "anywhere", "fetch", "here"):
    try:
        said.append([spec.check(seek), spec.origin.is_present])
    except PlumblineError as error:
        said.append([error.detail, spec.origin.is_present])
print(json.dumps(said))
"""


def first_lines(listening: socket.socket) -> Iterator[bytes]:
    """What each connection that waits to be accepted asks for."""
    with suppress(BlockingIOError):
        while True:
            connection, _ = listening.accept()
            with connection:
                yield connection.recv(1000).partition(b"\r\n")[0]


def ask(home: Path, *archs: str, **environment: str) -> list[list[object]]:
    """What each architecture gives."""
    return run(PROGRAM, home, *archs, **environment)


def run(program: str, home: Path, *archs: str, **environment: str) -> list[list[object]]:
    """In a process of its own: the hub's client reads its address and its cache once."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**others, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", program, *archs]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=500)
    return json.loads(done.stdout)


def test_repositories_are_fetched_once_and_then_found_offline(tiny_folder: Path, tmp_path: Path) -> None:
    with serve(tiny_folder) as address:
        archs = "hf-hub:org/tiny", "hf-hub:org/other", "hf-hub:org/empty"
        found, other, empty = ask(tmp_path, *archs, HF_ENDPOINT=address)
    assert found == FOUND
    assert other == [
        "CheckpointNotFoundError",
        "The hub does not give out org/other: it is not there, or needs a token.",
    ]
    assert empty == [
        "CheckpointNotFoundError",
        "The hub repository org/empty holds none of open_clip_config.json, config.json.",
    ]
    found, other, odd = ask(tmp_path, "hf-hub:org/tiny", "hf-hub:org/other", "hf-hub:a/b/c", HF_HUB_OFFLINE="1")
    assert found == FOUND
    assert other == [
        "CheckpointNotFoundError",
        "org/other is not in the local hub cache and the hub cannot be reached.",
    ]
    assert odd == ["CheckpointNotFoundError", "a/b/c is not a hub name of the form org/name."]


def test_a_hub_that_takes_connections_and_says_nothing_is_asked_once_for_all_repositories(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = ask(tmp_path, "hf-hub:org/tiny", "hf-hub:org/other", "hf-hub:org/third", HF_ENDPOINT=address)
        silent.settimeout(0)
        assert [line for line in first_lines(silent) if line.startswith(b"HEAD")] == [b"HEAD / HTTP/1.1"]
    assert [detail for _, detail in found] == [
        f"org/{name} is not in the local hub cache and the hub cannot be reached."
        for name in ("tiny", "other", "third")
    ]


def test_access_to_weights_is_checked_without_fetching_them(tiny_folder: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    shutil.copytree(tiny_folder, served)
    with serve(served) as address:
        found = run(CHECKED, tmp_path / "home", "hf-hub:org/tiny", HF_ENDPOINT=address)
        assert found == [[None, False], [None, False], [None, True], [None, True]]
        (served / "open_clip_model.safetensors").unlink()
        here, anywhere, *_ = run(CHECKED, tmp_path / "other", "hf-hub:org/tiny", HF_ENDPOINT=address)
    assert here == [None, False]
    assert str(anywhere[0]).startswith("The hub repository org/tiny holds none of open_clip_model.safetensors, ")


def pull(home: Path, config: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    others = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**others, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "COLUMNS": "300", **environment}
    command = [sys.executable, "-m", "plumbline_serve.cli", "pull", "--config", config, *options]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=500)


def test_pull_fetches_what_a_start_needs_and_offline_asks_nobody(tiny_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "plumbline.yaml"
    config.write_text("scorers: {clipscore: {arch: 'hf-hub:org/tiny'}}", encoding="utf-8")
    with serve(tiny_folder) as address:
        # The configuration, which says the architecture, is read before it is known what else to fetch.
        refused = pull(tmp_path / "home", str(config), "--offline", HF_ENDPOINT=address)
        assert (refused.returncode, "not in the local hub cache" in refused.stdout) == (1, True)
        assert not list((tmp_path / "home").rglob("*.safetensors"))
        fetched = pull(tmp_path / "home", str(config), HF_ENDPOINT=address)
        assert fetched.returncode == 0, fetched.stdout
        assert list((tmp_path / "home").rglob("*.safetensors"))
    again = pull(tmp_path / "home", str(config), "--offline", HF_ENDPOINT=address)
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("yes") == 2
    [weights] = {path.resolve() for path in (tmp_path / "home").rglob("*.safetensors")}
    weights.write_bytes(weights.read_bytes()[:100])
    broken = pull(tmp_path / "home", str(config), "--offline")
    assert (broken.returncode, "no:" in broken.stdout) == (1, True)
