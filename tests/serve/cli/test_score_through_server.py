"""`plumbline score --server` against the real edge over the embedded encoders; what it prints is what REST answers."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from typer.testing import CliRunner, Result

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.assembly import assembled
from plumbline_serve.cli.main import cli
from plumbline_serve.edge import create_app
from plumbline_serve.settings import load_settings
from tests.keys import add_key

KEY = "a-key-of-the-tests"
TEXT = "a red circle above a blue square, which the picture may not show"
runner = CliRunner()


@dataclass
class Running:
    url: str
    over: threading.Event = field(default_factory=threading.Event)


async def serve(running: Running, config: Path, listening: socket.socket, is_up: Future[None]) -> None:
    settings = load_settings(config)
    async with assembled(settings) as assembly:
        app = create_app(assembly.service, settings)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        task = asyncio.ensure_future(server.serve([listening]))
        is_up.set_result(None)
        await asyncio.to_thread(running.over.wait)
        server.should_exit = True
        await task


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    add_key(folder / "keys", KEY)
    settings = {
        "backend": "torch",
        "precision": "fp32",
        "scorers": {"clipscore": {}, "fclipscore": {}, "questions": {}, "refclipscore": {}, "image_similarity": {}},
        "limits": {"max_items": 3, "max_request_bytes": 1_000_000, "max_pixels": 160_000},
        "auth": {"keys_file": str(folder / "keys")},
    }
    path = folder / "plumbline.yaml"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="module")
def running(config: Path) -> Iterator[Running]:
    is_up: Future[None] = Future()

    def run() -> None:
        try:
            asyncio.run(serve(running, config, listening, is_up))
        except Exception as error:  # noqa: BLE001 - shown where the fixture waits
            is_up.set_exception(error)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = Running(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread = threading.Thread(target=run)
        thread.start()
        is_up.result()
        yield running
        running.over.set()
        thread.join()


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    """Makes a picture of noise, which takes 3 bytes a pixel as a file too."""

    def make(name: str, side: int = 64) -> Path:
        noise = np.random.default_rng(len(name)).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
        return tmp_path / name

    return make


def score(*arguments: object, key: str | None = KEY) -> Result:
    environment = {} if key is None else {"PLUMBLINE_API_KEY": key}
    return runner.invoke(cli, ["score", *map(str, arguments)], env=environment)


def shape(value: Any) -> Any:
    """The document with its numbers by their type."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape(entry) for entry in value]
    return value if isinstance(value, str | bool | None) else type(value)


def test_json_is_the_answer_of_rest_here_and_through_a_server(running, config, picture, tmp_path) -> None:
    good = picture("good.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = [good, tmp_path / "broken.png"]
    request = {"items": [{"id": str(file), "image": {"part": str(i)}, "text": TEXT} for i, file in enumerate(files)]}
    parts = {str(i): file.read_bytes() for i, file in enumerate(files)}
    answer = httpx.post(
        f"{running.url}/v1/score",
        files={"request": (None, json.dumps(request), "application/json"), **parts},
        headers={"authorization": f"Bearer {KEY}"},
        timeout=60,
    ).json()
    through = json.loads(score(*files, "--text", TEXT, "--json", "--server", running.url).stdout_bytes)
    here = json.loads(score(*files, "--text", TEXT, "--json", "--config", config).stdout_bytes)
    for printed in (through, here):
        assert list(printed) == list(answer)
        assert shape(printed["results"]) == shape(answer["results"])
        assert shape(printed["timing_ms"]) == shape(answer["timing_ms"])
    assert through["results"] == answer["results"]


def test_questions_go_to_the_server_as_they_stand_in_the_file(running, config, picture, tmp_path) -> None:
    file = tmp_path / "asked.json"
    asked = [{"text": "a star", "tag": "shape"}, {"text": "a red star", "expect": "no", "depends_on": [0]}]
    file.write_text(json.dumps(asked), encoding="utf-8")
    arguments = (picture("good.png"), "--questions", file, "--scorers", "questions", "--json")
    through = json.loads(score(*arguments, "--server", running.url).stdout_bytes)
    here = json.loads(score(*arguments, "--config", config).stdout_bytes)
    assert through["results"] == here["results"]
    assert set(here["results"][0]["scores"]["questions"]["rates"]) == {"shape"}


def test_what_images_are_compared_with_goes_to_the_server(running, config, picture) -> None:
    names = ("--scorers", "refclipscore,image_similarity", "--json")
    compared = ("--text", "a fox", "--reference", "a red fox", "--reference-image", picture("other.png", side=40))
    arguments = (picture("good.png"), picture("other.png", side=40), *compared, *names)
    through = json.loads(score(*arguments, "--server", running.url).stdout_bytes)
    here = json.loads(score(*arguments, "--config", config).stdout_bytes)
    for there, result in zip(through["results"], here["results"], strict=True):
        assert set(result["scores"]) == set(there["scores"]) == {"refclipscore", "image_similarity"}
        for name, found in result["scores"].items():
            assert there["scores"][name] == pytest.approx(found, abs=1e-6)  # batches are as inputs come


def test_combinations_go_to_the_server(running, config, picture) -> None:
    terms = [{"scorer": "clipscore", "min": 0, "max": 2}, {"scorer": "fclipscore", "min": -1, "max": 0, "weight": 0.5}]
    combine = json.dumps({"both": {"method": "harmonic", "terms": terms}})
    arguments = (picture("good.png"), "--text", "a fox", "--scorers", "clipscore", "--combine", combine, "--json")
    through = json.loads(score(*arguments, "--server", running.url).stdout_bytes)
    here = json.loads(score(*arguments, "--config", config).stdout_bytes)
    there, found = (answer["results"][0]["scores"] for answer in (through, here))
    assert set(there) == set(found) == {"clipscore", "fclipscore", "both"}
    assert there["both"]["terms"] == pytest.approx(
        found["both"]["terms"], abs=1e-6
    )  # batches are made as inputs arrive
    assert 0 < found["both"]["value"] < 1.001


@pytest.mark.parametrize("pool", ["mean", "min", "clip4clip"])
def test_frames_go_to_the_server_as_one_video(running, config, picture, tmp_path, pool) -> None:
    files = [picture("one.png"), picture("two.png", side=40), picture("three.png", side=90)]
    asked = ("--text", "a fox", "--scorers", "clipscore", "--json", "--frames", "--pool", pool)
    [there] = json.loads(score(*files, *asked, "--server", running.url).stdout_bytes)["results"]
    [here] = json.loads(score(*files, *asked, "--config", config).stdout_bytes)["results"]
    assert there["id"] == here["id"] == str(files[0])
    found, same = there["scores"]["clipscore"], here["scores"]["clipscore"]
    assert found["value"] == pytest.approx(same["value"], abs=1e-6)  # batches are made as inputs arrive
    assert found["frames"]["values"] == pytest.approx(same["frames"]["values"], abs=1e-6)
    large = tmp_path / "large.png"
    large.write_bytes(bytes(load_settings(config).limits.max_form_bytes + 1))
    refused = json.loads(score(files[0], large, *asked, "--server", running.url).stdout_bytes)
    assert [result["error"]["code"] for result in refused["results"]] == ["request_too_large"]


def test_requests_are_cut_to_what_the_server_takes_and_joined(running, config, picture, tmp_path) -> None:
    small = [picture(f"small-{number}.png", side=390) for number in range(7)]
    limits = load_settings(config).limits
    num_bytes = [path.stat().st_size for path in small]
    assert sum(num_bytes[:4]) > limits.max_form_bytes > sum(num_bytes[:2])
    large = tmp_path / "large.png"
    large.write_bytes(bytes(limits.max_form_bytes + 1))
    files = [*small[:5], large, tmp_path / "missing.png", *small[5:]]
    ran = score(*files, "--text", TEXT, "--scorers", "clipscore", "--json", "--server", running.url)
    assert ran.exit_code == 1
    answer = json.loads(ran.stdout_bytes)
    assert [result["id"] for result in answer["results"]] == [str(file) for file in files]
    assert [result["status"] for result in answer["results"]] == [*["ok"] * 5, "error", "error", *["ok"] * 2]
    assert answer["results"][5]["error"]["code"] == "request_too_large"
    assert answer["timing_ms"]["total"] > 0


def test_a_key_is_sent_from_the_option_or_the_environment(running, picture) -> None:
    image = picture("one.png")
    arguments = [image, "--text", TEXT, "--server", running.url, "--scorers", "clipscore"]
    assert score(*arguments).exit_code == 0
    assert score(*arguments, "--api-key", KEY, key=None).exit_code == 0
    for ran in (score(*arguments, key=None), score(*arguments, key="another")):
        assert isinstance(ran.exception, PlumblineError)
    assert KEY not in runner.invoke(cli, ["score", "--help"], env={"PLUMBLINE_API_KEY": KEY}).stdout


def test_a_server_without_a_scheme_is_one_of_http(running, picture) -> None:
    address = running.url.removeprefix("http://")
    assert score(picture("one.png"), "--text", TEXT, "--server", address, "--scorers", "clipscore").exit_code == 0
