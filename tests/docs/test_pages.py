"""What pages name is there: files, headings, settings, metrics, error codes."""

import fnmatch
import functools
import importlib.util
import itertools
import re
import tomllib
import typing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from plumbline_models.core.errors import error_classes
from plumbline_models.scorers import GROUP, SCORERS
from plumbline_serve.settings import Settings, load_settings
from tests.docs.pages import (
    CHANGELOG,
    DOCS,
    PAGES,
    ROOT,
    SECURITY,
    Block,
    anchors,
    blocks,
    links,
    name,
    rows,
    spans,
    text_of,
)

CODES = {kind.code: kind.status for kind in error_classes()}
SECTIONS = {each: field.annotation for each, field in Settings.model_fields.items()}
SETTING = re.compile(rf"({'|'.join(SECTIONS)})\.(\w+)")
VARIABLE = re.compile(r"PLUMBLINE_([A-Z_]+)")
SERVES = " → plumbline_models"
BESIDE_SETTINGS = {"CONFIG", "API_KEY", "BASELINE_PRECISION"}
"""Variables of the command, of the client, and of one baseline."""


@functools.cache
def source_files() -> list[str]:
    folders = (ROOT / each for each in ("clients", "deploy", "docs", "loadtests", "models", "serve", "tests"))
    return [str(path) for folder in folders for path in folder.rglob("*")]


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name)
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_promise_of_security_names_a_test_that_holds_it():
    promises = text_of(SECURITY).partition("## Promises")[2].partition("\n## ")[0]
    held = [line for line in promises.splitlines() if line.startswith("| ")][2:]
    assert len(held) > 10
    for line in held:
        named = re.findall(r"\]\((tests/[^)]+)\)", line)
        assert named, line
        assert all("def test_" in text_of(ROOT / each) for each in named), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page):
    for span in spans(page):
        if re.fullmatch(r"[\w.-]+(/[\w.*-]+)*\.py|[\w.-]+(/[\w.*-]+)+\.(sh|yaml|md|txt|proto)", span):
            assert fnmatch.filter(source_files(), f"*/{span}"), span


def test_reading_orders_are_short():
    lists = re.findall(r"^1\. .*?(?=\n\n)", text_of(ROOT / "CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    request_path, new_scorer = (len(re.findall(r"^\d+\. ", each, re.MULTILINE)) for each in lists)
    assert request_path <= 25
    assert new_scorer <= 8


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", DOCS / "architecture.md"], ids=name)
def test_arrows_between_layers_are_those_that_are_enforced(page):
    tools = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]
    depths = {
        module: depth
        for contract in tools["importlinter"]["contracts"]
        if contract.get("containers") in (["plumbline_models"], ["plumbline_serve"])
        for depth, layer in enumerate(contract["layers"])
        for module in re.split(r" [|:] ", layer)
    }
    chains = re.findall(r"\w+(?:(?:, | → )\w+)*? → \w+(?:(?:, | → )\w+)*", text_of(page))
    assert len(chains) == 2
    for chain in chains:
        layers = [{depths[each] for each in layer.split(", ")} for layer in chain.removesuffix(SERVES).split(" → ")]
        assert all(max(above) < min(below) for above, below in itertools.pairwise(layers)), chain


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_an_entry_point_is_of_the_group_that_is_read(block: Block):
    assert GROUP in tomllib.loads(block.text)["project"]["entry-points"]


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert set(DOCS.glob("*.md")) <= linked


def test_the_page_of_settings_is_made_from_the_class():
    spec = importlib.util.spec_from_file_location("make_settings", DOCS / "make_settings.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.page() == text_of(DOCS / "settings.md"), "`make docs` writes it"


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_configuration(block: Block, tmp_path):
    path = tmp_path / "plumbline.yaml"
    path.write_text(block.text, encoding="utf-8")
    settings = load_settings(path)
    for scorer, options in (settings.scorers or {}).items():
        assert scorer in {each.info.name for each in SCORERS}
        assert isinstance(options, dict)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_that_are_named_exist(page):
    for span in spans(page):
        if (match := SETTING.fullmatch(span.partition(":")[0])) and match[1] != "scorers":
            section = SECTIONS[match[1]]
            assert isinstance(section, type), span
            assert issubclass(section, BaseModel), span
            assert match[2] in section.model_fields, span
        for variable in VARIABLE.findall(span):
            field, _, inner = variable.lower().partition("__")
            if variable in BESIDE_SETTINGS or not variable.strip("_"):
                continue
            assert field in SECTIONS, span
            assert not inner or inner in typing.cast("type[BaseModel]", SECTIONS[field]).model_fields, span


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_code_beside_a_status_is_an_error_with_that_status(page):
    for status, code in re.findall(r"\b([45]\d\d)\s\(?`([a-z_]+)`", text_of(page)):
        assert CODES.get(code) == int(status), code


def test_every_metric_has_a_row_with_its_labels_and_no_other(served):
    exposed = text_string_to_metric_families(served.request("GET", "/metrics").text)
    names = {each.name + ("_total" if each.type == "counter" else "") for each in exposed}
    registry = served.assembly.instruments._registry
    labels = {
        metric.name: {*getattr(collector, "_labelnames", ())}.union(*(each.labels for each in metric.samples)) - {"le"}
        for collector in registry._collector_to_names
        for metric in collector.collect()
    }
    table = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[1])) for cells in rows(DOCS / "metrics.md")}
    listed = {metric: named for metric, named in table.items() if metric.startswith("plumbline_")}
    assert set(listed) == names
    assert {metric.removesuffix("_total"): named for metric, named in listed.items()} == labels


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_metrics_that_are_named_exist(page):
    known = {cells[0].strip("`") for cells in rows(DOCS / "metrics.md")}
    for span in [*spans(page), *(block.text for block in blocks("promql") if block.page == page)]:
        for metric in re.findall(r"\bplumbline_\w+(?=\{|\[|$)", span):
            if not (ROOT / "clients" / metric).is_dir() and not list(ROOT.glob(f"*/{metric}")):
                assert re.sub(r"_(sum|count|bucket)$", "", metric) in known, metric


def test_the_figure_of_the_architecture_has_no_colours_of_its_own():
    for block in blocks("mermaid"):
        assert not re.search(r"#[0-9a-f]{3,6}\b|style |classDef", block.text), "GitHub colours it for both themes"


def test_every_block_has_a_language_that_a_test_looks_at():
    checked = {"sh", "json", "yaml", "toml", "python", "mermaid", "promql", "ts"}
    assert {block.language for block in blocks("", *checked)} <= checked | {""}
    assert not {str(block) for block in blocks("bash", "shell", "console", "yml", "text")}
