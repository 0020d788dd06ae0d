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
[configuration.py](../serve/plumbline_serve/settings/configuration.py).

`plumbline serve --config plumbline.yaml` reads a file; `PLUMBLINE_CONFIG` names one without the option. A variable sets
any field: `PLUMBLINE_LIMITS__MAX_ITEMS=64` sets `limits.max_items`. Options of the command win over variables,
variables over the file, and the file over the defaults below. An unknown field is an error, and so is one that stands
there twice.

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
    dict: "mapping",
    tuple: "list",
}


def page() -> str:
    """The whole page."""
    documents = dict(_docstrings(settings.Settings))
    top: list[str] = []
    sections: list[str] = []
    for name, field in settings.Settings.model_fields.items():
        if (kind := _section(field.annotation)) is not None:
            within = f"{name}.NAME" if get_origin(field.annotation) is dict else name
            rows = _rows(within, kind, documents)
            sections.append("\n".join((f"## {name}", "", inspect.getdoc(kind) or "", "", TABLE, *rows)))
        else:
            top.append(_row(name, field, documents[settings.Settings, name]))
    return "\n\n".join((HEAD.rstrip(), "\n".join(("## Top level", "", TABLE, *top)), *sections)) + "\n"


def _rows(section: str, kind: type[BaseModel], documents: dict[tuple[type, str], str]) -> Iterator[str]:
    """A section's fields, those of sections within it below the field that holds them."""
    for name, field in kind.model_fields.items():
        yield _row(f"{section}.{name}", field, documents[kind, name])
        if (inner := _section(field.annotation)) is not None:
            yield from _rows(f"{section}.{name}", inner, documents)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The class of a section, of one that may be left out, or of several by name."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _docstrings(owner: type[BaseModel]) -> Iterator[tuple[tuple[type, str], str]]:
    """The string below each field of a class and of its sections; an error names a field that has none."""
    definition: Any = ast.parse(inspect.getsource(owner)).body[0]  # of a class
    for field, below in zip(definition.body, [*definition.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            yield (owner, ast.unparse(field.target)), inspect.cleandoc(str(below.value.value))
    for inner in owner.model_fields.values():
        if (kind := _section(inner.annotation)) is not None:
            yield from _docstrings(kind)


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
    if _section(annotation) is not None:
        return "section"
    return NAMES[origin or annotation]


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
    if field.is_required() or isinstance(value, BaseModel):
        return "required" if field.is_required() else "as below"
    if isinstance(value, ByteSize):
        return f"`{re.sub(r'[.]0(?=[A-Z])', '', value.human_readable())}`"
    if name.endswith(PIXELS):
        return f"`{value // 10**6}MP`"
    if value is None or value == ():
        return "none"
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
