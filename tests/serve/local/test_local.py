"""`Plumbline` beside a service over REST with the same settings, and what only it does: threads, loops, closing."""

import asyncio
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

from plumbline_client import (
    AsyncClient,
    Batch,
    CapacityError,
    Combination,
    DeadlineError,
    Image,
    InvalidRequestError,
    Item,
    Term,
    Threshold,
    UsageError,
)
from plumbline_client import kept_calls as client_kept
from plumbline_client import requests as client_requests
from plumbline_client import sets as client_sets
from plumbline_client.requests import Request
from plumbline_models.core.errors import ConfigError
from plumbline_serve.assembly import assembled
from plumbline_serve.edge import create_app
from plumbline_serve.local import Plumbline
from plumbline_serve.local.answering import LISTS, ROUTES
from plumbline_serve.settings import Settings
from plumbline_serve.store.store import LOOK_AGAIN_S

GALLERY = Path(__file__).parents[3] / "serve" / "plumbline_serve" / "demo" / "gallery"
CIRCLE = GALLERY / "red_circle.png"
SCORERS: dict[str, dict[str, Any]] = {"clipscore": {}, "fclipscore": {}, "vqascore": {}, "qualiclip": {}}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cache = str(tmp_path_factory.mktemp("cache"))
    limits = {"max_items": 8, "max_wait_ms": 1.0}  # no caller waits so long in a service
    store = f"sqlite:///{cache}/store.db"
    kept = {"cache_dir": cache, "store": store}
    return {"backend": "torch", "precision": "fp32", "scorers": SCORERS, "limits": limits, **kept}


@pytest.fixture(scope="module")
def plumbline(config) -> Iterator[Plumbline]:
    with Plumbline(config) as plumbline:
        yield plumbline


@pytest.fixture(scope="module")
def over_rest(config):
    """Calls a method of a client of the same service behind its REST application."""
    with asyncio.Runner() as runner:
        settings, stack = Settings(**config), AsyncExitStack()
        assembly = runner.run(stack.enter_async_context(assembled(settings)))
        transport = httpx.ASGITransport(create_app(assembly.service, settings))
        http = runner.run(stack.enter_async_context(httpx.AsyncClient(transport=transport)))
        client = AsyncClient("http://service", http=http)
        yield lambda method, *arguments, **named: runner.run(getattr(client, method)(*arguments, **named))
        runner.run(stack.aclose())


def alike(reply: Any) -> Any:
    """All of a reply but for how long it took."""
    return reply.model_dump(exclude={"timing_ms"}) if hasattr(reply, "model_dump") else reply


@pytest.mark.parametrize("name", ["red_circle", "green_star"])
def test_scores_are_the_bits_of_the_service(plumbline, over_rest, name: str) -> None:
    items = [Item(GALLERY / f"{name}.png", "a green circle", id="mine")]
    here = plumbline.score(items, request_id="r")
    assert alike(here) == alike(over_rest("score", items, request_id="r"))
    assert here.results[0].scores.keys() == SCORERS.keys()


CALLS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "filter": ("filter", [[Item(CIRCLE, "a red circle"), Item(b"no image", "a")], [Threshold("clipscore", min=1)]], {}),
    "rank": ("rank", ["a red circle", [CIRCLE, GALLERY / "green_star.png", b"no image"]], {"scorer": "clipscore"}),
    "rank texts": ("rank", [CIRCLE, ["a red circle", "a star"]], {"top_k": 1}),
    "select": ("select", ["a red circle", [CIRCLE, b"no image"]], {"scorer": "clipscore", "correlation": 0.5}),
    "embed": ("embed", [["a red circle"]], {}),
    "embed images": ("embed", [[CIRCLE, b"no image"]], {}),
    "combine": ("score", [[Item(CIRCLE, "a red circle")]], {"combine": {"r": Combination("sum", [Term("clipscore")])}}),
    "raw": ("score", [[Item(np.asarray(PIL.Image.open(CIRCLE).convert("RGB")), "a red circle")]], {}),
    "scorers": ("scorers", [], {}),
    "models": ("models", [], {}),
    "ready": ("ready", [], {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_method_answers_as_the_service_does(plumbline, over_rest, name: str) -> None:
    method, arguments, named = CALLS[name]
    named = named if method in {"scorers", "models", "ready"} else {"request_id": "r", **named}
    there = over_rest(method, *arguments, **named)
    here = getattr(plumbline, method)(*arguments, **named)
    awaited = asyncio.run(getattr(plumbline.aio, method)(*arguments, **named))
    assert alike(here) == alike(awaited) == alike(there)


WRONG: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("score", [[Item(text="a")]], {"scorers": ["unknown"]}),
    ("score", [[]], {}),
    ("filter", [[Item(text="a")], [Threshold("clipscore")]], {}),
    ("rank", ["a", [b"x"]], {"top_k": 0}),
]


@pytest.mark.parametrize(("method", "arguments", "named"), WRONG)
def test_what_the_service_refuses_is_refused_in_its_words(plumbline, over_rest, method, arguments, named) -> None:
    with pytest.raises(InvalidRequestError) as there:
        over_rest(method, *arguments, request_id="r", **named)
    with pytest.raises(InvalidRequestError) as here:
        getattr(plumbline, method)(*arguments, request_id="r", **named)
    assert here.value.problem == there.value.problem
    assert here.value.__cause__ is not None


def test_calibrations_are_kept_as_the_service_keeps_them(plumbline, over_rest) -> None:
    """The store is the same file, so that one uses what the other made."""
    labelled = ("clipscore", [0.0] * 19, [True] * 19)
    made = plumbline.calibrate("launch", *labelled, alpha=0.05, direction="keep_good")
    assert (made.threshold, made.num_used) == (0.0, 19)
    assert alike(over_rest("calibrations")[0]) == alike(plumbline.calibrations()[0])
    policy = [Threshold("clipscore", calibration="launch")]
    verdicts = over_rest("filter", [Item(CIRCLE, "a red circle")], policy, request_id="r")
    assert alike(plumbline.filter([Item(CIRCLE, "a red circle")], policy, request_id="r")) == alike(verdicts)
    assert verdicts.results[0].is_accepted
    asyncio.run(plumbline.aio.delete_calibration("launch"))
    assert plumbline.calibrations() == ()
    with pytest.raises(InvalidRequestError, match="no calibration 'launch'"):
        plumbline.delete_calibration("launch")


def test_classifiers_are_learnt_here_and_score_there_too(plumbline, over_rest) -> None:
    circles, others = ("red_circle", "ring_and_triangle"), ("green_star", "heart_above_cross")
    shown = {
        kind: [GALLERY / f"{name}.png" for name in names] for kind, names in (("circle", circles), ("star", others))
    }
    prompts = {"circle": "a circle", "star": "a star"}
    made = plumbline.classify("circles", shown, prompts)
    assert (made.classes, made.num_images, made.scorer) == (("circle", "star"), 4, "clipscore")
    (kept,) = plumbline.classifiers()
    assert (kept.name, kept.accuracy_cv, kept.created) == (made.name, made.accuracy_cv, made.created)
    time.sleep(LOOK_AGAIN_S)  # that process may have looked a moment ago
    assert over_rest("classifiers") == (kept,)
    (*_, listed) = plumbline.scorers()
    assert alike(listed) == alike(over_rest("scorers")[-1])
    assert listed.id == "classifier:circles"
    item, named = [Item(CIRCLE)], {"scorers": ["classifier:circles"], "request_id": "r"}
    assert alike(plumbline.score(item, **named)) == alike(over_rest("score", item, **named))
    asyncio.run(plumbline.aio.delete_classifier("circles"))
    assert plumbline.classifiers() == ()
    with pytest.raises(InvalidRequestError, match="no classifier 'circles'"):
        plumbline.delete_classifier("circles")


def test_drift_of_scores_given_here_is_found(plumbline) -> None:
    values = [0.5 + n / 1000 for n in range(100)]
    assert plumbline.refer("vqascore", values).n == asyncio.run(plumbline.aio.references())[0].n == 100
    before = plumbline.drift().scorers["vqascore"].m
    plumbline.score([Item(CIRCLE, "a drifting circle")], scorers=["vqascore"])
    found = asyncio.run(plumbline.aio.drift()).scorers["vqascore"]
    assert (found.n, found.m, found.psi) == (100, before + 1, None)
    plumbline.delete_reference("vqascore")
    assert plumbline.drift().scorers == {}


def test_sets_are_measured_as_the_service_does(plumbline, over_rest) -> None:
    files = [CIRCLE, GALLERY / "green_star.png", CIRCLE]
    for method, arguments, named in (
        ("diversity", [files], {"texts": ["a", "b", "a"], "orders": [1, math.inf], "near_duplicate": None}),
        ("distance", [files, files[:2]], {"rbf_sigma": 2.0}),
    ):
        there = over_rest(method, *arguments, request_id="r", **named)
        assert alike(getattr(plumbline, method)(*arguments, request_id="r", **named)) == alike(there)


def test_sets_are_kept_as_the_service_keeps_them(plumbline, over_rest) -> None:
    files = [CIRCLE, GALLERY / "green_star.png", CIRCLE]
    made = plumbline.refer_set("launch", files, scorer="clipscore")
    assert (made.name, made.n) == ("launch", 3)
    apart = {"reference": "launch", "request_id": "r"}
    here = asyncio.run(plumbline.aio.distance(files[:2], **apart))
    assert here.frechet == plumbline.distance(files[:2], files).frechet
    time.sleep(LOOK_AGAIN_S)  # that process may have looked a moment ago
    assert alike(over_rest("distance", files[:2], **apart)) == alike(here)
    (kept,) = plumbline.reference_sets()
    assert over_rest("reference_sets") == (kept,)
    assert (kept.name, kept.bound_to, kept.created) == (made.name, made.bound_to, made.created)
    plumbline.delete_reference_set("launch")
    assert asyncio.run(plumbline.aio.reference_sets()) == ()
    with pytest.raises(InvalidRequestError, match="no reference set 'launch'"):
        asyncio.run(plumbline.aio.delete_reference_set("launch"))


def test_a_combination_is_calibrated_as_the_service_does(plumbline, over_rest) -> None:
    combine = {"reward": Combination("sum", [Term("clipscore", 2.0)])}
    labelled, promise = ("reward", None, [0.0] * 19, [True] * 19), {"alpha": 0.05, "direction": "keep_good"}
    made = plumbline.calibrate(*labelled, combine=combine, **promise)
    there = over_rest("calibrate", *labelled, combine=combine, **promise)
    assert made.model_dump(exclude={"created", "request_id"}) == there.model_dump(exclude={"created", "request_id"})
    policy = [Threshold("reward", calibration="reward")]
    (verdict,) = over_rest("filter", [Item(CIRCLE, "a red circle")], policy, combine=made.combine).results
    assert verdict.is_accepted
    plumbline.delete_calibration("reward")


def test_every_request_of_the_client_is_answered() -> None:
    found: list[Any] = [Request]
    for kind in found:
        found.extend(kind.__subclasses__())
    modules = {each.__name__ for each in (client_requests, client_sets, client_kept)}
    kinds = {kind for kind in found if "reply" in vars(kind) and kind.__module__ in modules}
    assert kinds == ROUTES.keys() | LISTS.keys()


def test_more_items_than_a_request_holds_are_scored(plumbline) -> None:
    rewards = plumbline.rewards([CIRCLE, b"no image"] * 10, "a red circle", scorer="clipscore")
    assert len(rewards) == 20
    assert np.isnan(np.asarray(rewards)).tolist() == [False, True] * 10
    assert {error.code for error in rewards.errors if error} == {"image_undecodable"}
    ranking = plumbline.rank("a red circle", [GALLERY / "green_star.png"] * 10 + [CIRCLE], scorer="clipscore").ranking
    assert ranking[0].index == 10


def test_threads_share_the_engines_and_wait_for_each_other(plumbline) -> None:
    """Of a service with this `max_wait_ms`, most would be told to come again."""
    at_once = threading.Barrier(8)

    def score(n: int) -> float:
        at_once.wait()
        image = Image.raw(np.full((48, 48, 3), 8 * n, np.uint8))
        return plumbline.score([Item(image, f"text {n}")], scorers=["vqascore"]).results[0].value("vqascore")

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(score, range(8)))
    alone = [score_alone(plumbline, n) for n in range(8)]
    assert values == pytest.approx(alone, rel=1e-4)


def score_alone(plumbline: Plumbline, n: int) -> float:
    image = Image.raw(np.full((48, 48, 3), 8 * n, np.uint8))
    return plumbline.score([Item(image, f"text {n}")], scorers=["vqascore"]).results[0].value("vqascore")


def test_asyncio_is_served_on_any_loop(plumbline) -> None:
    async def many() -> list[Any]:
        return await asyncio.gather(*(plumbline.aio.score([Item(CIRCLE, f"{n} circles")]) for n in range(4)))

    first, second = asyncio.run(many()), asyncio.run(many())
    assert [alike(each.results[0]) for each in first] == [alike(each.results[0]) for each in second]


async def test_a_task_that_is_cancelled_is_let_go(plumbline) -> None:
    task = asyncio.create_task(plumbline.aio.score([Item(CIRCLE, f"cancelled {n}") for n in range(8)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await plumbline.aio.ready()


def test_time_that_is_over_is_an_error(plumbline) -> None:
    with pytest.raises((DeadlineError, CapacityError)):  # the second where it is foreseen
        plumbline.score([Item(CIRCLE, f"late {n}") for n in range(8)], timeout_ms=0.5)


def batches() -> list[Any]:
    return [[(CIRCLE, f"{n} circles")] for n in range(5)] + [Batch([Item(text="a")], ["unknown"], correlation_id="x")]


def check_stream(replies: list[Any]) -> None:
    assert {reply.correlation_id for reply in replies} == {"0", "1", "2", "3", "4", "x"}
    for reply in replies:
        if reply.correlation_id == "x":
            assert reply.error.code == "unknown_scorer"
        else:
            assert math.isfinite(reply.unwrap().results[0].value("clipscore"))


def test_streams_answer_every_batch(plumbline) -> None:
    check_stream(list(plumbline.score_stream(batches(), max_in_flight=2)))


async def test_streams_answer_every_batch_with_asyncio(plumbline) -> None:
    async def slowly() -> Any:
        for batch in batches():
            await asyncio.sleep(0)
            yield batch

    for given in (batches(), slowly()):
        check_stream([reply async for reply in plumbline.aio.score_stream(given, max_in_flight=2)])


def test_a_stream_reads_no_further_than_there_is_room(plumbline) -> None:
    read: list[int] = []

    def source() -> Iterator[Any]:
        for n in range(6):
            read.append(n)
            yield [(CIRCLE, f"{n} of a few")]

    stream = plumbline.score_stream(source(), max_in_flight=2)
    for num_replies, _ in enumerate(stream, 1):
        assert len(read) <= num_replies + 2
    assert len(read) == 6


@pytest.mark.parametrize("given", [5, [5], ["text"]])
def test_a_stream_of_no_batches_is_refused(plumbline, given: Any) -> None:
    with pytest.raises(UsageError):
        list(plumbline.score_stream(given))


def test_a_wrong_configuration_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    wrong: list[Any] = [{"scorers": {"unknown": {}}}, {"nonsense": 1}, {"_env_file": "x"}, tmp_path / "none.yaml"]
    for config in wrong:
        with pytest.raises(ConfigError):
            Plumbline(config)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_is_told_to_make_its_own(plumbline) -> None:
    context = multiprocessing.get_context("fork")
    said = context.Queue()

    def child() -> None:
        try:
            plumbline.scorers()
        except UsageError as error:
            said.put(error.detail)

    process = context.Process(target=child)
    process.start()
    assert "in each process" in said.get(timeout=60)
    process.join()
    assert plumbline.ready()


PROGRAM = """
import sys
from plumbline_serve.local import Plumbline
plumbline = Plumbline({"cache_dir": sys.argv[1], "scorers": {"clipscore": {}}})
print(plumbline.rewards([b"no image"], "a", scorer="clipscore").errors[0].code)
print(sorted({"ray", "fastapi", "torch"} & sys.modules.keys()))
"""


def test_a_program_may_end_without_closing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ)
    assert ran.stdout.splitlines() == ["image_undecodable", "[]"]
    assert ran.stderr == ""


def test_a_call_that_is_overtaken_by_the_end_is_refused_and_waits_for_nobody(config: dict[str, Any]) -> None:
    """As where its images are read on one thread while another closes."""
    plumbline = Plumbline(config | {"scorers": {"clipscore": {}}})
    begun = plumbline._core.begin({})
    plumbline.close()
    for request in (client_requests.ScoreRequest([(CIRCLE, "a red circle")]), client_requests.ListScorersRequest()):
        with pytest.raises(UsageError, match="closed"):
            plumbline._service.ask(request, begun)


def test_what_is_closed_answers_what_is_under_way_and_nothing_else(config: dict[str, Any]) -> None:
    plumbline = Plumbline(config | {"scorers": {"clipscore": {}}})
    num_threads = threading.active_count()
    under_way = plumbline.score_stream([[(CIRCLE, f"{n} rings")] for n in range(3)], max_in_flight=1)
    first = next(under_way)
    plumbline.close()
    plumbline.close()
    assert first.unwrap().results[0].is_ok
    for closed in (plumbline.scorers, lambda: asyncio.run(plumbline.aio.scorers()), lambda: list(under_way)):
        with pytest.raises(UsageError, match="closed"):
            closed()
    assert threading.active_count() < num_threads
