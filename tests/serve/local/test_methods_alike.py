"""The clients and `Plumbline` have the same public methods, arguments and replies, blocking and asyncio."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from docs import make_openapi
from plumbline_client import AsyncClient, AsyncGrpcClient, CallOptions, Client, GrpcClient
from plumbline_client.requests import ForgetRequest
from plumbline_serve.local import AsyncPlumbline, Plumbline
from plumbline_serve.local.answering import FORGETTING, LISTS, ROUTES

CLIENTS = Path(__file__).parents[3] / "clients"
README = CLIENTS / "README.md"
STREAM = "score_stream"
OF_REST = {
    *("calibrate", "calibrations", "delete_calibration"),
    *("classify", "classifiers", "delete_classifier"),
    *("refer", "references", "delete_reference", "drift"),
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


def options_of(method: Callable[..., Any]) -> set[str]:
    """What a method takes by name alone, beside what every call does."""
    parameters = inspect.signature(method).parameters.values()
    named = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    [kind] = (get_args(each.annotation)[0] for each in parameters if each.kind is each.VAR_KEYWORD)
    return (named | kind.__annotations__.keys()) - CallOptions.__annotations__.keys()


def snake(name: str) -> str:
    """A name of TypeScript as Python has it."""
    return re.sub(r"(?<!^)[A-Z]", lambda found: f"_{found[0]}", name).lower()


def test_options_of_typescript_are_those_of_python() -> None:
    text = (CLIENTS / "typescript" / "src" / "options.ts").read_text(encoding="utf-8")
    interfaces = dict(re.findall(r"interface (\w+)Options extends CallOptions \{(.*?)\n\}", text, re.DOTALL))
    found = {snake(kind): set(map(snake, re.findall(r"\n  (\w+)\??:", body))) for kind, body in interfaces.items()}
    expected = {name: options_of(each) for name, each in methods(Client).items() if name != "close"}
    expected["distance"] -= {"reference"}  # stands in the place of the second set
    assert found == {name: options for name, options in expected.items() if options}


def test_every_method_stands_in_the_table_of_the_readme_with_arguments_that_it_has() -> None:
    rows = [line.split("|")[1] for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    documented = {name: given for row in rows for name, given in re.findall(r"`(\w+)\(([^`]*)\)`", row)}
    here = methods(Plumbline)
    assert here.keys() - {"close"} <= documented.keys()
    for name in here.keys() & documented.keys():
        named = set(re.findall(r"(?:^|, )(\w+)", documented[name]))
        assert named <= inspect.signature(here[name]).parameters.keys() | options_of(here[name]), name
