"""What the docs site holds besides the pages of this folder: hooks of MkDocs, named in mkdocs.yml.

`make docs` builds the site. Pages that lie elsewhere in the repository are taken into it, the API and the settings are
made anew from the code, and links to what is no page, such as sources, become their text: the site stands alone.
"""

import json
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs import make_api, make_openapi, make_settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "SECURITY.md": "security.md",
    "clients/README.md": "python_client.md",
    "clients/typescript/README.md": "typescript_client.md",
    "models/plumbline_models/embedded/mini-clip/README.md": "mini_clip.md",
    "models/plumbline_models/embedded/mini-flant5/README.md": "mini_flant5.md",
    "models/plumbline_models/embedded/mini-qualiclip/README.md": "mini_qualiclip.md",
}
"""Pages outside this folder, and what they are called on the site."""
ADDING = "adding_a_scorer.md"
"""A section of CONTRIBUTING.md as a page of its own."""
NEXT = "\n## "
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_PIPE_IN_CODE = re.compile(r"(`[^`\n]*)\\\|")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in what is not in this folder, or is made when the site is built."""
    document = make_openapi.document()
    made = {
        "api.md": make_api.page(document),
        "openapi.json": json.dumps(document, indent=1) + "\n",
        "settings.md": make_settings.page(),
        ADDING: _section(ROOT / "CONTRIBUTING.md", "Adding a scorer"),
    }
    made |= {there: _text(ROOT / here) for here, there in BESIDE.items()}
    for uri, content in made.items():
        if (known := files.get_file_from_path(uri)) is not None:
            files.remove(known)
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs names all
    """Point links at the site, and write what GitHub's Markdown reads otherwise."""
    uri = page.file.src_uri
    here = {there: ROOT / path for path, there in BESIDE.items()} | {ADDING: ROOT / "CONTRIBUTING.md"}
    folder = here.get(uri, DOCS / uri).parent
    parts = _FENCED.split(markdown)
    parts[::2] = [_PIPE_IN_CODE.sub(r"\1|", _pointed(each, folder, files)) for each in parts[::2]]
    return "".join(parts)


def _pointed(markdown: str, folder: Path, files: Files) -> str:
    """The text with its links as the site has them."""

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path:
            return match[0]
        found = Path(os.path.normpath(folder / path)).relative_to(ROOT)
        name = BESIDE.get(found.as_posix()) or found.as_posix().removeprefix("docs/")
        if found.as_posix() == "CONTRIBUTING.md" and anchor == "adding-a-scorer":
            name, anchor = ADDING, ""
        if files.get_file_from_path(name) is None and (ROOT / found).exists():
            return text  # a source or a folder
        return f"{mark}[{text}]({name}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(link, markdown)


def _text(path: Path) -> str:
    """A page without the front matter of model cards, which the hub reads."""
    return _FRONT_MATTER.sub("", path.read_text(encoding="utf-8"))


def _section(path: Path, heading: str) -> str:
    """One section of a page, its heading that of a page."""
    _, _, after = _text(path).partition(f"## {heading}\n")
    return f"# {heading}\n{after.partition(NEXT)[0]}"
