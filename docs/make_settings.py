"""The page docs/settings.md, made from the settings class: `make docs` writes it, a test compares it."""

import ast
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ByteSize, SecretStr
from pydantic.fields import FieldInfo

from plumbline_serve import settings

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Every setting, its type, its default and what it means. `make docs` makes this page from
[settings.py](../serve/plumbline_serve/settings.py).

`plumbline serve --config plumbline.yaml` reads a file; `PLUMBLINE_CONFIG` names one without the option. A variable sets
any field: `PLUMBLINE_LIMITS__MAX_ITEMS=64` sets `limits.max_items`. Options of the command win over variables,
variables over the file, and the file over the defaults below. An unknown field is an error.

Sizes in bytes take a unit (`20MiB`), numbers of pixels too (`50MP`). Relative paths in a file start at its folder,
those in variables at the working directory.

What goes into `scorers` is on the page of each scorer: [which score answers which question](scorers.md),
[real weights](real_weights.md), [fclipscore](fclipscore.md),
[qualiclip](qualiclip.md), [vqascore](vqascore.md).
"""
PIXELS = "_pixels"
TABLE = "| setting | type | default | meaning |\n| --- | --- | --- | --- |"
NAMES = {
    ByteSize: "bytes",
    Path: "path",
    str: "text",
    SecretStr: "text, kept secret",
    int: "whole number",
    float: "number",
    bool: "true or false",
}


def page() -> str:
    """The whole page."""
    documents = dict(_docstrings())
    top: list[str] = []
    sections: list[str] = []
    for name, field in settings.Settings.model_fields.items():
        if (kind := _sections().get(name)) is not None:
            rows = [_row(f"{name}.{inner}", each, documents[kind, inner]) for inner, each in kind.model_fields.items()]
            sections.append("\n".join((f"## {name}", "", inspect.getdoc(kind) or "", "", TABLE, *rows)))
        else:
            top.append(_row(name, field, documents[settings.Settings, name]))
    return "\n\n".join((HEAD.rstrip(), "\n".join(("## Top level", "", TABLE, *top)), *sections)) + "\n"


def _sections() -> dict[str, type[BaseModel]]:
    """Classes of the sections, by name."""
    kinds = {name: field.annotation for name, field in settings.Settings.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _docstrings() -> Iterator[tuple[tuple[type, str], str]]:
    """The string below each field of each class; an error names a field that has none."""
    owners: list[type] = [settings.Settings, *_sections().values()]
    for owner in owners:
        definition: Any = ast.parse(inspect.getsource(owner)).body[0]  # of a class
        for field, below in zip(definition.body, [*definition.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                yield (owner, ast.unparse(field.target)), inspect.cleandoc(str(below.value.value))


def _row(name: str, field: FieldInfo, document: str) -> str:
    is_pixels = name.endswith(PIXELS)
    kind = " ".join(part for part in ("pixels" if is_pixels else _kind(field.annotation), _bounds(field)) if part)
    cells = (f"`{name}`", kind, _default(name, field), " ".join(document.split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin in {types.UnionType, Union}:
        return " or ".join(_kind(each) for each in arguments if each is not type(None))
    if origin is dict:
        return "mapping"
    if origin is tuple:
        return "list"
    return NAMES[annotation]


def _bounds(field: FieldInfo) -> str:
    said = []
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge | annotated_types.Gt):
            above = bound.ge if isinstance(bound, annotated_types.Ge) else bound.gt
            said.append(f"{'≥' if isinstance(bound, annotated_types.Ge) else '>'} {above}")
        elif isinstance(bound, annotated_types.Le):
            said.append(f"≤ {bound.le}")
    return ", ".join(said)


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, ByteSize):
        return f"`{re.sub(r'[.]0(?=[A-Z])', '', value.human_readable())}`"
    if name.endswith(PIXELS):
        return f"`{value // 10**6}MP`"
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
