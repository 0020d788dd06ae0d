"""Servers beside ours: started with a deadline, asked with forms that a real parser reads, compared, summed up."""

import asyncio
import io
import json
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import BodyPartReader, web
from PIL import Image

from loadtests.service.baseline import Server, compare, ratio, summarise
from loadtests.service.baseline_clients import BASELINES, score_by_form, score_by_plumbline
from loadtests.service.baseline_server import FOLDER, BaselineError, baseline_server
from loadtests.service.images import forms
from loadtests.service.load_generators import FORM, Window, form, repeat


async def read_form(request: web.Request) -> dict[str, tuple[str | None, bytes]]:
    parts: dict[str, tuple[str | None, bytes]] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        assert part.name is not None
        parts[part.name] = (part.filename, bytes(await part.read()))
    return parts


async def test_a_form_is_what_a_multipart_parser_reads(serve):
    seen = []

    async def keep(request):
        seen.append(await read_form(request))
        return web.Response()

    awkward = b"\r\n--plumbline\r\n\x00\xff" + bytes(range(256))
    url = await serve(keep)
    async with aiohttp.ClientSession() as session:
        for body in (form({"text": "a café".encode()}, {"image": awkward, "1": b""}), next(forms(3, is_new=True))):
            async with session.post(url, data=body, headers=FORM) as reply:
                reply.raise_for_status()
    assert seen[0] == {"text": (None, "a café".encode()), "image": ("image", awkward), "1": ("1", b"")}
    request = json.loads(seen[1].pop("request")[1])
    assert [item["image"]["part"] for item in request["items"]] == list(seen[1]) == ["0", "1", "2"]
    assert all(data.startswith(b"\xff\xd8") for _, data in seen[1].values())
    assert len({data for _, data in seen[1].values()}) == 3


def seen_in(image: bytes, text: str) -> float:
    """A number for the pixels and the words, whatever the comment in the file."""
    return float(np.asarray(Image.open(io.BytesIO(image))).mean()) + len(text) / 100


async def answer_ours(request):
    parts = await read_form(request)
    text = json.loads(parts["request"][1])["items"][0]["text"]
    scores = {"clipscore": {"value": 0.0, "cosine": seen_in(parts["image"][1], text)}}
    return web.json_response({"results": [{"id": "0", "status": "ok", "scores": scores}]})


async def answer_as_fastapi(request):
    parts = await read_form(request)
    return web.json_response({"cosine": seen_in(parts["image"][1], parts["text"][1].decode())})


async def test_servers_are_asked_about_the_same_pairs(routed):
    ours, theirs = await routed("/v1/score", answer_ours), await routed("/score", answer_as_fastapi)
    servers = {"plumbline": Server(score_by_plumbline, ours), "baseline": Server(score_by_form, theirs)}
    cosines = await compare(servers)
    assert cosines["plumbline"] == cosines["baseline"]
    assert len(set(cosines["baseline"])) > 1


async def test_nothing_is_measured_where_scores_differ(routed):
    async def answer_otherwise(request):
        await request.read()
        return web.json_response({"cosine": 0.3})

    ours, theirs = await routed("/v1/score", answer_ours), await routed("/score", answer_otherwise)
    servers = {"plumbline": Server(score_by_plumbline, ours), "baseline": Server(score_by_form, theirs)}
    with pytest.raises(SystemExit, match="baseline scores the same pairs differently"):
        await compare(servers)


async def test_an_item_that_failed_ends_the_run(routed):
    async def answer(_):
        return web.json_response({"results": [{"id": "0", "status": "error", "error": {"code": "overloaded"}}]})

    server = Server(score_by_plumbline, await routed("/v1/score", answer))
    with pytest.raises(KeyError):
        await server.run(num_requests=1, num_clients=1)


async def test_clients_in_a_closed_loop_wait_for_their_own_answers_alone():
    under_way, most = 0, 0

    async def send_one():
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    window = await repeat(send_one, num_requests=20, num_clients=4)
    assert (most, window.num_requests, len(window.latencies_s)) == (4, 20, 20)


def test_rates_are_medians_of_rounds_and_percentiles_of_all_rounds_together():
    rounds = [Window(100, seconds, [seconds / 100] * 100) for seconds in (10.0, 20.0, 50.0)]
    found = summarise(rounds)
    assert found["requests_a_second"] == 5.0
    assert (found["p50_ms"], found["p99_ms"]) == (pytest.approx(200.0), pytest.approx(500.0))
    assert ratio({"requests_a_second": 10.0, "p99_ms": 5.0}, {"requests_a_second": 4.0, "p99_ms": 20.0}) == {
        "requests_a_second": 2.5,
        "p99_ms": 4.0,
    }


def test_a_baseline_that_ends_or_is_late_is_named_with_its_log(tmp_path):
    ends = tmp_path / "interpreter"
    ends.write_text('#!/bin/sh\necho "no module named litserve for $PLUMBLINE_BASELINE_PORT" >&2\nexit 1\n')
    ends.chmod(0o755)
    with (
        pytest.raises(
            BaselineError, match=r"fastapi_open_clip was not ready[^\n]*\.log, ends with:\nno module named"
        ) as error,
        baseline_server("fastapi_open_clip", tmp_path, ready_path="/ready", python=ends),
    ):
        pass
    [log] = [word.rstrip(",") for word in str(error.value).split() if word.endswith(".log,")]
    Path(log).unlink()


def test_a_baseline_that_is_never_ready_is_stopped(tmp_path):
    sleeps = tmp_path / "interpreter"
    sleeps.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeps.chmod(0o755)
    with (
        pytest.raises(BaselineError, match=r"not ready within 0\.5 s") as error,
        baseline_server("fastapi_open_clip", tmp_path, ready_path="/ready", python=sleeps, start_s=0.5),
    ):
        pass
    [log] = [word.rstrip(",") for word in str(error.value).split() if word.endswith(".log,")]
    Path(log).unlink()


def test_every_baseline_is_a_file():
    assert all((FOLDER / f"{name}.py").is_file() for name in BASELINES)
