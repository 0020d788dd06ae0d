import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from plumbline_serve.edge.rest.pages import PAGES

KINDS = {
    ".css": "text/css", ".js": "javascript", "": "text/html", ".json": "application/json", ".png": "image/png",
}  # fmt: skip
PACKAGE = Path(str(files("plumbline_serve")))


class Page(HTMLParser):
    """What a page loads, and whether anything in it is inline."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.labelled: set[str] = set()
        self.fields: set[str] = set()
        self._in_code = False

    def handle_starttag(self, tag, attributes) -> None:
        found = dict(attributes)
        if tag in ("script", "link"):
            self.loads += filter(None, (found.get("src"), found.get("href")))
        self.inline += [name for name in found if name.startswith("on") or name == "style"]
        self._in_code = tag in ("script", "style")
        if tag == "label":
            self.labelled.add(found["for"])
        if tag in ("input", "textarea"):
            self.fields.add(found["id"])

    def handle_data(self, data) -> None:
        if self._in_code and data.strip():
            self.inline.append(data)

    def handle_endtag(self, _tag) -> None:
        self._in_code = False


@pytest.mark.parametrize("path", PAGES)
def test_every_page_and_asset_is_served_under_a_strict_policy(edge, path: str) -> None:
    reply = edge.http.get(path)
    assert reply.status_code == 200
    assert KINDS[Path(path).suffix] in reply.headers["content-type"]
    policy = dict(each.strip().split(" ", 1) for each in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["style-src"] == ("'self' 'unsafe-inline'" if "docs" in path or "swagger" in path else "'self'")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_has_nothing_inline_and_loads_only_from_here(edge, path: str) -> None:
    page = Page()
    page.feed(edge.http.get(path).text)
    assert page.inline == []
    for loaded in page.loads:
        if loaded != "data:,":
            assert edge.http.get("/" + loaded).status_code == 200


def test_every_field_of_the_playground_has_a_label(edge) -> None:
    page = Page()
    page.feed(edge.http.get("/").text)
    assert page.fields == {"file", "text", "key"}
    assert page.fields <= page.labelled


def test_the_scripts_import_and_fetch_only_what_is_there(edge) -> None:
    script = "".join(edge.http.get(path).text for path in PAGES if path.endswith(".js") and "swagger" not in path)
    named = re.findall(r'(?:fetch|call|post)\("([^"]+)"', script) + re.findall(r'from "\./([^"]+)"', script)
    assert {"v1/scorers", "v1/score", "v1/sets/diversity", "gallery/captions.json", "words.js"} <= set(named)
    for path in named:
        assert edge.http.get("/" + path).status_code in (200, 405)


def test_every_file_of_the_playground_and_of_the_gallery_is_a_page() -> None:
    shown = {file for (package, _), file, _ in PAGES.values() if package == "plumbline_serve"}
    folders = (PACKAGE / "playground", PACKAGE / "demo" / "gallery")
    assert shown == {file.name for folder in folders for file in folder.iterdir()}


def test_swagger_ui_can_show_openapi_3_1(edge) -> None:
    assert re.search(r"5\.\d+\.\d+", edge.http.get("/swagger-ui-bundle.js").text)
    assert "SwaggerUIBundle" in edge.http.get("/docs.js").text


def test_a_page_that_did_not_change_is_not_sent_again(edge) -> None:
    first = edge.http.get("/swagger-ui-bundle.js")
    again = edge.http.get("/swagger-ui-bundle.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["x-request-id"]
