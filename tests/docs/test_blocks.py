"""Every code block of the pages is run or compared by a test: which, and what no test here can run."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from plumbline_serve.logs import JsonFormatter
from tests.docs.pages import DOCS, PAGES, ROOT, Block, blocks, name

LOOKED_AT = {
    "json": "docs/test_json.py",
    "yaml": "docs/test_pages.py",
    "toml": "docs/test_pages.py",
    "promql": "docs/test_pages.py",
}
"""Languages all of whose blocks one module reads."""
PYTHON = {
    "clients/README.md": "clients/test_client_package.py",
    "docs/decisions.md": "docs/test_decisions.py",
    "docs/local.md": "docs/test_local.py",
}
TYPESCRIPT = {"clients/typescript/README.md": "web/test_generated_clients.py"}
PLAIN = {
    "clients/README.md": "clients/test_client_package.py",
    "docs/architecture.md": "docs/test_pages.py",
    "docs/reliability.md": "docs/test_blocks.py",
    "docs/serving.md": "docs/test_blocks.py",
}
COMMANDS = {
    "README.md": "docs/test_readme.py",
    "clients/README.md": "test_wheels.py",
    "docs/access.md": "serve/cli/test_keys_command.py",
    "docs/batch.md": "serve/cli/test_batch_command.py",
    "docs/compare.md": "serve/offline/test_comparison.py",
    "docs/decisions.md": "serve/cli/test_calibrate_command.py",
    "docs/guards.md": "serve/requests/test_guarding.py",
    "docs/int8.md": "serve/cli/test_compile_command.py",
    "docs/quick_start.md": "docs/test_quick_start.py",
    "docs/real_weights.md": "docs/test_real_weights.py",
    "docs/scorers.md": "serve/cli/test_probe_command.py",
    "docs/tensorrt.md": "serve/cli/test_compile_command.py",
}
"""Where the commands of a page run, by the same names and on files of the test's own; docs/test_commands.py holds their
options against the commands'."""
NOT_RUN = {
    ("docs/engines.md", "sh"): "four minutes, and it writes into the sources; their digests are compared in its place",
    ("docs/evaluate.md", "sh"): "a published suite, which nothing here may download",
    ("docs/gpus.md", "sh"): "needs a GPU and eight minutes",
    ("docs/mini.md", "sh"): "hours of training",
    ("README.md", "mermaid"): "GitHub draws it; no program here does",
    ("docs/architecture.md", "mermaid"): "the same",
}
"""docs/test_commands.py still finds the commands, their modules and their options."""


def where(block: Block) -> str | None:
    """The module that runs or compares a block; None: none does."""
    page = name(block.page)
    by_page = {"python": PYTHON, "ts": TYPESCRIPT, "": PLAIN, "sh": COMMANDS}.get(block.language, {})
    return LOOKED_AT.get(block.language) or by_page.get(page)


def all_blocks() -> list[Block]:
    return blocks("", "sh", "json", "yaml", "toml", "promql", "python", "ts", "mermaid")


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: f"{block.language} {block}")
def test_a_block_is_run_or_compared_or_it_is_said_why_not(block: Block) -> None:
    module, reason = where(block), NOT_RUN.get((name(block.page), block.language))
    assert (module is None) != (reason is None)
    assert module is None or (ROOT / "tests" / module).is_file(), module


def test_nothing_is_listed_that_is_not_there() -> None:
    there = {(name(block.page), block.language) for block in all_blocks()}
    listed = {(page, "sh") for page in COMMANDS} | {(page, "python") for page in PYTHON} | set(NOT_RUN)
    assert listed | {(page, "") for page in PLAIN} | {(page, "ts") for page in TYPESCRIPT} <= there
    assert {name(page) for page in PAGES} >= {page for page, _ in there}


def test_the_unit_that_is_shown_is_of_the_one_that_is_shipped() -> None:
    [unit] = (block.text for block in blocks("") if block.page == DOCS / "reliability.md")
    shipped = (ROOT / "deploy" / "plumbline.service").read_text(encoding="utf-8").splitlines()
    assert set(unit.splitlines()) <= set(shipped)


def logged(caplog: pytest.LogCaptureFixture) -> Iterator[dict[str, Any]]:
    """What the requests of this test left in the log, as a gateway writes it."""
    for record in caplog.records:
        yield json.loads(JsonFormatter("gateway").format(record))


def test_lines_of_the_log_have_the_members_that_are_shown(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    [block] = (each.text for each in blocks("") if each.page == DOCS / "serving.md")
    answered, refused, _ = map(json.loads, block.splitlines())  # test_failures_in_the_log.py has the third
    caplog.set_level(logging.INFO)
    served.request("POST", "/v1/score", json={"items": [{"text": "a"}]})
    served.request("POST", "/v1/score", json={"items": [{"text": 5}]})
    lines = {line["message"]: line for line in logged(caplog) if line.get("route") == "/v1/score"}
    for shown in (answered, refused):
        assert shown.keys() <= lines[shown["message"]].keys()
    assert lines["request refused"]["fields"] == refused["fields"]
