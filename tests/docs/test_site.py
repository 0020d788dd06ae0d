"""The docs site is built with warnings as errors, holds every page, route and setting, and asks no other host."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs import make_site
from tests.docs.pages import DOCS, ROOT

ASSET = re.compile(r"""(?:src="|<link [^>]*href="|url\(["']?|import\s*["'(]+)((?:https?:)?//[^"')\s]+)""")


def build(sources: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs, from a checkout; the command's working directory is where it finds the hooks."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=sources, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_on_the_site(site: Path):
    pages = [*(path.name for path in DOCS.glob("*.md")), *make_site.BESIDE.values(), make_site.ADDING, "api.md"]
    assert not [page for page in pages if not (site / page).with_suffix(".html").is_file()]
    assert not list(site.rglob("*.py"))


def test_the_api_is_made_of_the_schema(site: Path):
    document = json.loads((site / "openapi.json").read_text(encoding="utf-8"))
    page = (site / "api.html").read_text(encoding="utf-8")
    for path, methods in document["paths"].items():
        for method in methods:
            assert f">{method.upper()} {path}<" in page
    for name, schema in document["components"]["schemas"].items():
        assert f'id="{name.lower()}"' in page
        missing = [field for field in schema.get("properties", {}) if f"<code>{field}</code>" not in page]
        assert not missing, name


def test_settings_and_the_section_on_scorers_are_pages_of_their_own(site: Path):
    assert "<code>limits.max_items</code>" in (site / "settings.html").read_text(encoding="utf-8")
    adding = (site / "adding_a_scorer.html").read_text(encoding="utf-8")
    assert "plumbline.scorers" in adding
    assert "Random requests" not in adding


def test_no_page_asks_another_host_for_anything(site: Path):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not ASSET.findall(path.read_text(encoding="utf-8")), path.name


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path):
    sources = tmp_path / "sources"
    shutil.copytree(DOCS, sources / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.name == "mkdocs.yml":
            shutil.copy(path, sources)
        elif path.name != "docs":
            (sources / path.name).symlink_to(path)
    with (sources / "docs" / "images.md").open("a", encoding="utf-8") as page:
        page.write("\n[one](nowhere.md), [two](urls.md#nowhere), [three](../nowhere.py)\n")
    built = build(sources, tmp_path / "site")
    assert built.returncode == 1
    assert built.stderr.count("WARNING") == 3, built.stderr
