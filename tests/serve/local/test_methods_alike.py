"""The clients and `Plumbline` have the same public methods, arguments and replies, blocking and asyncio."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import make_openapi
from plumbline_client import AsyncClient, AsyncGrpcClient, Client, GrpcClient
from plumbline_client.requests import ForgetRequest
from plumbline_serve.local import AsyncPlumbline, Plumbline
from plumbline_serve.local.answering import FORGETTING, LISTS, ROUTES

README = Path(__file__).parents[3] / "clients" / "README.md"
STREAM = "score_stream"
OF_REST = {
    *("calibrate", "calibrations", "delete_calibration"),
    *("classify", "classifiers", "delete_classifier"),
    *("refer", "references", "delete_reference", "drift"),
    *("diversity", "distance", "audit"),
    *("refer_set", "reference_sets", "delete_reference_set"),
}
"""What gRPC has not."""
PAIRS = [(Client, AsyncClient), (GrpcClient, AsyncGrpcClient), (Plumbline, AsyncPlumbline)]


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a class, by name."""
    return {name: each for name, each in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def arguments(method: Callable[..., Any], *, with_types: bool) -> Iterator[tuple[Any, ...]]:
    """The arguments of a method: name, kind, default, type."""
    for each in inspect.signature(method).parameters.values():
        yield each.name, each.kind, each.default, each.annotation if with_types else None


def declared(method: Callable[..., Any]) -> str:
    """A method's signature; clients, which run on Python 3.10 too, have `Unpack` of typing_extensions."""
    return re.sub(r"(typing_extensions\.Unpack\[|\*)<?(class ')?([\w.]+)'?>?\]?", r"\3", str(inspect.signature(method)))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].__name__)
def test_what_blocks_and_what_is_awaited_have_the_same_methods(pair: tuple[type, type]) -> None:
    blocking, awaited = map(methods, pair)
    assert blocking.keys() == awaited.keys()
    for name in blocking.keys() - {STREAM}:
        assert inspect.iscoroutinefunction(awaited[name])
        assert not inspect.iscoroutinefunction(blocking[name])
        assert inspect.signature(blocking[name]) == inspect.signature(awaited[name]), name
    if STREAM in blocking:  # what is awaited takes batches that are awaited as well
        assert inspect.isasyncgenfunction(awaited[STREAM])
        assert [*arguments(blocking[STREAM], with_types=False)] == [*arguments(awaited[STREAM], with_types=False)]


def test_a_plumbline_has_the_methods_of_all_clients_and_of_nothing_else() -> None:
    here, rest, over_grpc = methods(Plumbline), methods(Client), methods(GrpcClient)
    assert here.keys() == rest.keys() | over_grpc.keys() == rest.keys() | {STREAM}
    assert rest.keys() - over_grpc.keys() == OF_REST
    for name, method in {**rest, **over_grpc}.items():
        assert declared(here[name]) == declared(method), name
        awaited = {**methods(AsyncClient), **methods(AsyncGrpcClient)}[name]
        assert declared(methods(AsyncPlumbline)[name]) == declared(awaited), name


def test_every_route_of_the_service_is_one_of_a_method() -> None:
    """But for those of whoever runs it, and for one calibration, which stands among all of them."""
    paths = make_openapi.document()["paths"]
    routes = {(verb, path) for path, verbs in paths.items() for verb in verbs}
    asked = {(each.method.lower(), each.path) for each in ROUTES.keys() | LISTS.keys() - {ForgetRequest}}
    forgotten = {(ForgetRequest.method.lower(), f"{kind}/{{name}}") for kind in FORGETTING}
    others = {("get", "/livez"), ("get", "/metrics"), ("post", "/v1/admin/reload"), ("get", "/v1/calibrations/{name}")}
    assert routes == asked | forgotten | others


def test_every_method_stands_in_the_table_of_the_readme() -> None:
    rows = [line.split("|")[1] for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)\(", row)}
    assert methods(Plumbline).keys() - {"close"} <= documented
