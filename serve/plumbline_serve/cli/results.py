"""Where results go: stdout, and an error where it takes none, for what was computed must not vanish unsaid."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.edge.rest.replies import write_json


def show_json(document: Any) -> None:
    """Print a document as UTF-8, whatever the terminal's encoding.

    Raises:
        OSError: It cannot be written.
    """
    plain = orjson.loads(write_json(document))
    _check_stdout()
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def show_table(table: Table, *lines: RenderableType) -> None:
    """Print a table and lines below it.

    On a terminal it is drawn, and where that is narrow, cells are folded, never cut. For other programs it is a line of
    tab-separated values for each row, its headings first, and what is said below it goes to stderr.

    Args:
        table: With its cells.
        *lines: Below it.

    Raises:
        OSError: They cannot be written.
    """
    _check_stdout()
    if not sys.stdout.isatty():
        _print_values(table)
        for line in lines:
            print(_plain(line), file=sys.stderr)
        return
    for column in table.columns:
        column.overflow = "fold"
    console = Console()
    console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True)
    sys.stdout.flush()


def _print_values(table: Table) -> None:
    columns = [[_plain(column.header), *map(_plain, column.cells)] for column in table.columns]
    for row in zip(*columns, strict=True):
        print("\t".join(row))
    sys.stdout.flush()


def _plain(value: RenderableType) -> str:
    """A cell as a value on one line."""
    text = value.plain if isinstance(value, Text) else Text.from_markup(str(value)).plain
    return " ".join(text.split())


def literally(value: str) -> Text:
    """Text of others as it stands: no markup of ours, no control character for the terminal."""
    return Text("".join(each if each.isprintable() else ascii(each)[1:-1] for each in value))


def paragraphs(value: str) -> Text:
    """The same, of a text that has lines."""
    return Text("\n").join(map(literally, value.split("\n")))


def check_page(path: Path | None) -> None:
    """See that a page can be written, before what it is about is computed.

    Args:
        path: Of its file; None: none is.

    Raises:
        InvalidFieldError: Its folder is not there, or it is a folder itself.
    """
    if path is not None and path.is_dir():
        raise InvalidFieldError(f"{path} is a folder, and no page can be written there.")
    if path is not None and not path.absolute().parent.is_dir():
        raise InvalidFieldError(f"There is no folder {path.parent}, in which a page could be written.")


def _check_stdout() -> None:
    if sys.stdout is None:  # how Python shows that it was started with it closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
