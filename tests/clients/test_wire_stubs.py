import importlib
import runpy
from pathlib import Path

import pytest

import plumbline_wire
from plumbline_wire.v1 import scoring_pb2 as pb

CLIENTS = Path(__file__).parents[2] / "clients"
STUBS = CLIENTS / "plumbline_wire" / "v1"
SCHEMAS = ("scoring", "open_inference")
GENERATED = [f"{schema}_pb2{end}" for schema in SCHEMAS for end in (".py", ".pyi", "_grpc.py", "_grpc.pyi")]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    runpy.run_path(str(CLIENTS / "proto" / "compile_stubs.py"))["compile_stubs"](out)
    return out / "plumbline_wire" / "v1"


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_stubs_are_what_the_schema_compiles_to(fresh: Path, name: str) -> None:
    committed = (STUBS / name).read_text()
    assert (fresh / name).read_text() == committed, "run `make proto`"


def test_nothing_else_is_generated(fresh: Path) -> None:
    assert sorted(path.name for path in fresh.iterdir()) == sorted(GENERATED)


def test_the_service_has_the_published_name() -> None:
    assert pb.DESCRIPTOR.services_by_name["Scoring"].full_name == plumbline_wire.SCORING_SERVICE


def test_the_published_path_names_the_function_that_adds_the_servicer() -> None:
    module, _, function = plumbline_wire.ADD_SCORING_SERVICER.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


def test_scores_are_doubles_and_texts_know_whether_they_are_set() -> None:
    score, item = pb.ScoreValue.DESCRIPTOR.fields_by_name, pb.Item.DESCRIPTOR.fields_by_name
    assert score["value"].type == score["value"].TYPE_DOUBLE
    assert score["cosine"].type == score["cosine"].TYPE_DOUBLE
    assert item["text"].has_presence
    assert item["id"].has_presence
