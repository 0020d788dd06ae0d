"""The pages that people read, and what stands in them: code blocks, code within sentences, headings, links, tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"
README = ROOT / "README.md"
SECURITY = ROOT / "SECURITY.md"
DOCS = ROOT / "docs"
TYPESCRIPT = ROOT / "clients" / "typescript" / "README.md"
CARDS = tuple(sorted((ROOT / "models" / "plumbline_models" / "embedded").glob("*/README.md")))
PAGES = (
    *(README, SECURITY, ROOT / "CONTRIBUTING.md", ROOT / "clients" / "README.md", TYPESCRIPT),
    *sorted(DOCS.glob("*.md")),
    *CARDS,
)
"""All but the changelog, which may name what is gone."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}: {self.text.splitlines()[0][:40]}"


def name(page: Path) -> str:
    """How tests call a page."""
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """The whole page."""
    return page.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in one of the languages."""
    found = [Block(page, *match) for page in PAGES for match in _BLOCK.findall(text_of(page))]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", text_of(page))


def spans(page: Path) -> list[str]:
    """Code within sentences and tables."""
    return _CODE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Targets of the page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What `#…` may name, as GitHub makes it of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}


def rows(page: Path) -> Iterator[list[str]]:
    """Cells of the lines of all tables."""
    for line in prose(page).splitlines():
        if line.startswith("| "):
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
